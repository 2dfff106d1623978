//! What the programs of all agents share.

/// An agent's program: its entry, its memory and its panic handler.
///
/// - `entry`: the attribute of the entry function, cortex-m-rt's or that of a chip's layer,
/// - `pool`, `chunk`: bytes for tensors, and the most data bytes in a message,
/// - `parts`: what [`crate::agent::Agent::new`] takes, in its order: facts about the board, link, flash, clock.
///   Evaluated once,
/// - `ended`: what the program does when the link ends, of the link's error,
/// - `panic`: what is done with a panic, before the processor sleeps.
#[macro_export]
macro_rules! agent_program {
    (
        entry: $entry:meta,
        pool: $pool:expr,
        chunk: $chunk:expr,
        parts: $parts:expr,
        ended: $ended:expr,
        panic: |$info:pat_param| $report:expr $(,)?
    ) => {
        #[$entry]
        fn main() -> ! {
            // `entry` hands the statics that main begins with out as `&'static mut`, once.
            static mut POOL: $crate::agent::Pool<{ $pool }> = $crate::agent::Pool::new();
            static mut BUFFERS: $crate::agent::Buffers<
                { $chunk + $crate::agent::MESSAGE_OVERHEAD },
            > = $crate::agent::Buffers::new();
            use $crate::agent::Agent;
            let (info, link, flash, meter) = $parts;
            let Err(end) = Agent::new(info, link, flash, meter, POOL.bytes_mut(), BUFFERS).serve();
            let ended: fn(_) -> ! = $ended;
            ended(end)
        }

        // A report may end the program itself.
        #[allow(unreachable_code)]
        #[panic_handler]
        fn panic($info: &core::panic::PanicInfo) -> ! {
            $report;
            loop {
                cortex_m::asm::wfi();
            }
        }
    };
}

/// What a program does at the end of a link that has none.
pub fn never(end: core::convert::Infallible) -> ! {
    match end {}
}
