//! What Cortex-M boards share: SysTick as the clock, a painted stack, registers.

use core::ptr::addr_of;
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::{SCB, SYST, syst::SystClkSource};
use cortex_m_rt::exception;

use qmend_shared::link::ClockKind;

use crate::port::Meter;

/// Stack that is watched, in bytes from its top.
pub const WATCHED_STACK: usize = 64 * 1024;

const PAINT: u32 = 0xA5A5_5A5A;
const RELOAD: u32 = 0x00FF_FFFF;

static WRAPS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    // Only this exception counts up; a Cortex-M0 has no read-modify-write that would do it at once.
    WRAPS.store(WRAPS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

unsafe extern "C" {
    static _stack_start: u32;
    static _stack_end: u32;
    static __vector_table: u32;
    static __stext: u32;
    static __etext: u32;
    static __sidata: u32;
    static __sdata: u32;
    static __edata: u32;
}

/// Bytes of flash that the program occupies: vectors, code, constants, and initial values.
pub fn code_bytes() -> u32 {
    /// No vector table is longer; a linker script may leave room behind it.
    const VECTORS: u32 = 1024;
    let text = addr_of!(__stext) as u32;
    let data = addr_of!(__edata) as u32 - addr_of!(__sdata) as u32;
    let vectors = (text - addr_of!(__vector_table) as u32).min(VECTORS);
    vectors + addr_of!(__sidata) as u32 - text + data
}

/// SysTick on the processor's clock, extended to 56 bits by its exception, and the stack's paint.
pub struct SysTickMeter {
    systick: SYST,
    hz: u32,
}

impl SysTickMeter {
    /// `hz` is the frequency at which SysTick counts.
    pub fn new(mut systick: SYST, hz: u32) -> Self {
        systick.set_clock_source(SystClkSource::Core);
        systick.set_reload(RELOAD);
        systick.enable_interrupt();
        Self { systick, hz }
    }
}

impl Meter for SysTickMeter {
    fn ticks_per_second(&self) -> u32 {
        self.hz
    }

    fn kind(&self) -> ClockKind {
        ClockKind::Timer
    }

    fn start(&mut self) {
        self.systick.disable_counter();
        self.systick.clear_current();
        WRAPS.store(0, Ordering::Relaxed);
        self.systick.enable_counter();
    }

    fn stop(&mut self) -> u64 {
        self.systick.disable_counter();
        let left = SYST::get_current();
        // A wrap in the last instants may be pending still.
        cortex_m::asm::isb();
        let mut wraps = WRAPS.load(Ordering::Relaxed) as u64;
        if SCB::is_pendst_pending() {
            wraps += 1;
            SCB::clear_pendst();
        }
        // The counter starts at 0 and takes RELOAD with its first tick.
        let within = if left == 0 { 0 } else { RELOAD + 1 - left };
        wraps * (RELOAD as u64 + 1) + within as u64
    }

    fn reset_stack(&mut self) {
        paint_stack();
    }

    fn stack(&self) -> (u32, u32) {
        painted_stack()
    }
}

fn stack_range() -> (*mut u32, *mut u32) {
    let (top, floor) = (
        addr_of!(_stack_start) as usize,
        addr_of!(_stack_end) as usize,
    );
    let bottom = top.saturating_sub(WATCHED_STACK).max((floor + 3) & !3);
    (bottom as *mut u32, top as *mut u32)
}

/// Paints the stack that is not in use, for [`crate::port::Meter::reset_stack`].
pub fn paint_stack() {
    let (bottom, top) = stack_range();
    let here = cortex_m::register::msp::read() as *mut u32;
    let mut word = bottom;
    // Some words below the stack pointer are left for this function's own use.
    while word < top && (word as usize) < (here as usize).saturating_sub(64) {
        // SAFETY: between the stack's end and the stack pointer there is only unused stack.
        unsafe {
            word.write_volatile(PAINT);
            word = word.add(1);
        }
    }
}

/// Deepest stack since [`paint_stack`] and the size of what is watched, in bytes.
pub fn painted_stack() -> (u32, u32) {
    let (bottom, top) = stack_range();
    let mut word = bottom;
    // SAFETY: the words are RAM, and reading them volatile makes no claim on their values.
    while word < top && unsafe { word.read_volatile() } == PAINT {
        // SAFETY: `word < top`.
        word = unsafe { word.add(1) };
    }
    (top as u32 - word as u32, top as u32 - bottom as u32)
}

/// Most words in a trace.
const TRACE: usize = 8;

/// What may be return addresses in the stack, innermost first, 4 bytes little-endian each: words
/// that are odd, as those of Thumb code are, and lie in the program. Some are left over from calls
/// that have returned.
pub fn trace() -> heapless::Vec<u8, { 4 * TRACE }> {
    let code = addr_of!(__stext) as u32..addr_of!(__etext) as u32;
    let (_, top) = stack_range();
    let mut found = heapless::Vec::new();
    let mut word = cortex_m::register::msp::read() as *const u32;
    while word < top {
        // SAFETY: between the stack pointer and the stack's top there is RAM.
        let value = unsafe { word.read_volatile() };
        if value & 1 == 1
            && code.contains(&value)
            && found.extend_from_slice(&value.to_le_bytes()).is_err()
        {
            break;
        }
        // SAFETY: `word` is below the top.
        word = unsafe { word.add(1) };
    }
    found
}

/// A device register.
#[derive(Clone, Copy, Debug)]
pub struct Register(*mut u32);

impl Register {
    /// The register at this address.
    ///
    /// # Safety
    /// Reading and writing it breaks no other code's memory; who writes, knows the manual.
    pub const unsafe fn at(address: usize) -> Self {
        Self(address as *mut u32)
    }

    /// Its value.
    pub fn get(self) -> u32 {
        // SAFETY: by the contract of `at`.
        unsafe { self.0.read_volatile() }
    }

    /// Writes it.
    pub fn set(self, value: u32) {
        // SAFETY: by the contract of `at`.
        unsafe { self.0.write_volatile(value) }
    }

    /// Waits until one of these bits is set.
    pub fn wait_for(self, bits: u32) {
        while self.get() & bits == 0 {}
    }
}
