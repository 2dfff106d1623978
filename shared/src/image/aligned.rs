//! Bytes at an address that suits the kernels.

/// Something at an address that is a multiple of 16: an image in a program's constants, an arena.
///
/// Kernels give the same bits at any address; at multiples of four they are fast, on Cortex-M0+ by
/// several times.
///
/// ```
/// use qmend_shared::image::Aligned;
///
/// // Of a file: `&Aligned(*include_bytes!("model.qmend"))`.
/// static IMAGE: &Aligned<[u8]> = &Aligned([0x51, 0x4d, 0x4e, 0x44]);
/// assert_eq!(IMAGE.0.as_ptr().addr() % 16, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Aligned<T: ?Sized>(pub T);
