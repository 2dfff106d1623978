//! The processor's own cycle counter: CYCCNT of the DWT, which Cortex-M3 and larger ones may have. (Armv7-M
//! Architecture Reference Manual, C1.6.5 and C1.8.)

use cortex_m::peripheral::SYST;
use qmend_shared::link::ClockKind;

use crate::cortex_m_port::{Register, SysTickMeter};
use crate::port::{Meter, nearest_with_low_bits};

const fn register(address: usize) -> Register {
    // SAFETY: only registers of the debug unit are named below, none of which moves memory.
    unsafe { Register::at(address) }
}

const DEMCR: Register = register(0xE000_EDFC);
const TRACE_ENABLE: u32 = 1 << 24;
const CONTROL: Register = register(0xE000_1000);
const ENABLE: u32 = 1;
const NO_COUNTER: u32 = 1 << 25;
const COUNT: Register = register(0xE000_1004);

/// Counts by CYCCNT where it is there and runs, else by SysTick alone. CYCCNT has 32 bits, which at 64 MHz
/// are a minute: SysTick, on the same clock, says how often it went round.
pub struct CycleMeter {
    systick: SysTickMeter,
    present: bool,
    begin: u32,
}

impl CycleMeter {
    /// `hz` is the processor's frequency.
    pub fn new(systick: SYST, hz: u32) -> Self {
        Self {
            systick: SysTickMeter::new(systick, hz),
            present: start_counter(),
            begin: 0,
        }
    }
}

/// Starts the counter; whether it counts. Emulators have registers that stay zero in its place, and where
/// trace cannot be enabled there may be none at all.
fn start_counter() -> bool {
    DEMCR.set(DEMCR.get() | TRACE_ENABLE);
    if DEMCR.get() & TRACE_ENABLE == 0 || CONTROL.get() & NO_COUNTER != 0 {
        return false;
    }
    CONTROL.set(CONTROL.get() | ENABLE);
    let before = COUNT.get();
    // It is more than one cycle.
    cortex_m::asm::isb();
    COUNT.get() != before
}

impl Meter for CycleMeter {
    fn ticks_per_second(&self) -> u32 {
        self.systick.ticks_per_second()
    }

    fn kind(&self) -> ClockKind {
        if self.present {
            ClockKind::CycleCounter
        } else {
            self.systick.kind()
        }
    }

    fn start(&mut self) {
        self.systick.start();
        if self.present {
            self.begin = COUNT.get();
        }
    }

    fn stop(&mut self) -> u64 {
        let end = if self.present { COUNT.get() } else { 0 };
        let about = self.systick.stop();
        if self.present {
            nearest_with_low_bits(about, end.wrapping_sub(self.begin))
        } else {
            about
        }
    }

    fn reset_stack(&mut self) {
        self.systick.reset_stack();
    }

    fn stack(&self) -> (u32, u32) {
        self.systick.stack()
    }
}
