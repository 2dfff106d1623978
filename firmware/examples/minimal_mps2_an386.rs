//! A model in firmware of your own: the whole program. Say `firmware/build.sh`, then
//! `qemu-system-arm -M mps2-an386 -display none -semihosting -kernel target-firmware/minimal_mps2_an386.elf`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod firmware {
    use qmend_firmware::semihosting::{exit, print};
    use qmend_shared::{
        engine,
        image::{Aligned, Model},
    };

    static IMAGE: &Aligned<[u8]> = &Aligned(*include_bytes!("data/fashion.qmend"));
    static BOOT: &[u8; 784] = include_bytes!("data/ankle_boot.bin");

    #[cortex_m_rt::entry]
    fn main() -> ! {
        // `entry` hands a static of main out as `&'static mut`, once.
        static mut ARENA: Aligned<[i8; 10 * 1024]> = Aligned([0; 10 * 1024]);
        let model = Model::from_bytes(&IMAGE.0).expect("a sound image");
        let (input, mut scores) = (BOOT.map(|byte| byte as i8), [0; 10]);
        engine::run(&model, &mut ARENA.0, &input, &mut scores)
            .expect("buffers of the model's sizes");
        let class = (0..10).max_by_key(|&c| scores[c]).unwrap_or(0);
        print(
            [
                c"0\n", c"1\n", c"2\n", c"3\n", c"4\n", c"5\n", c"6\n", c"7\n", c"8\n", c"9\n",
            ][class],
        );
        exit(true)
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        exit(false)
    }
}

/// On a host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
