//! (to come)
use crate::model::Multiplier;
/// tmp
pub fn quantize_multiplier(real: f64) -> Option<Multiplier> {
    if !(real > 0.0) { return Some(Multiplier::ZERO); }
    let mut e = real.log2().floor() as i32 + 1;
    let mut m = (real / 2f64.powi(e) * 2f64.powi(31)).round() as i64;
    if m == 1 << 31 { m >>= 1; e += 1; }
    if e < -31 { return Some(Multiplier::ZERO); }
    if e > 30 { return None; }
    Some(Multiplier { mantissa: m as i32, exponent: e as i8 })
}
