//! No float on the device: the firmware's ELF files hold no floating-point instruction, no call to
//! a floating-point routine, and no heap.
//!
//! The firmware is built for `thumbv7em-none-eabi`, where the compiler may not use the
//! floating-point unit: any float arithmetic would be a call to one of the routines named below
//! (Arm's run-time ABI, "Run-time ABI for the Arm Architecture", sections 4.1.1 and 4.1.2, and
//! compiler-rt's own names). Instructions are looked for as well, by their encoding ("Armv7-M
//! Architecture Reference Manual", A5.3 and A6.4): coprocessors 10 and 11 are the floating-point
//! unit.
//!
//! Programs for the Cortex-M55 are built for a target with that unit, whose registers are the vectors'.
//! There the compiler's code must hold no instruction of the unit nor of the vector extension, moves
//! included, and the assembly of the kernels, `shared/src/kernels/helium/helium.s`, whose functions alone do,
//! names none of a floating-point type. For RISC-V the compiler's own record in the file says that there are no
//! floating-point instructions.

use std::path::{Path, PathBuf};

use object::{
    Architecture, FileFlags, Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind,
};
use qmend_tests::emulator::device_is_required;

/// A function of the vector kernels' assembly.
const VECTOR_FUNCTION: &str = "qmend_scale_1";

/// Whether a symbol is a floating-point routine.
fn is_float_routine(name: &str) -> bool {
    if let Some(rest) = name.strip_prefix("__aeabi_") {
        let conversions = [
            "i2f", "i2d", "ui2f", "ui2d", "l2f", "l2d", "ul2f", "ul2d", "h2f", "h2d",
        ];
        return rest.starts_with(['f', 'd'])
            || rest.starts_with("cf")
            || rest.starts_with("cd")
            || conversions.iter().any(|c| rest.starts_with(c));
    }
    let in_rust = [
        "flt2dec",
        "dec2flt",
        "compiler_builtins::float",
        "compiler_builtins5float",
        "core..fmt..float",
        "4core3fmt5float",
    ];
    if in_rust.iter().any(|part| name.contains(part)) {
        return true;
    }
    // compiler-rt: `__addsf3`, `__fixdfsi`, `__floatundisf`, `__extendhfsf2`, `__powisf2`...
    let stems = [
        "add", "sub", "mul", "div", "neg", "fix", "float", "extend", "trunc", "powi", "cmp", "eq",
        "ne", "lt", "le", "gt", "ge", "unord",
    ];
    let kinds = ["hf", "sf", "df", "tf"];
    name.strip_prefix("__").is_some_and(|rest| {
        stems.iter().any(|s| rest.starts_with(s)) && kinds.iter().any(|k| rest.contains(k))
    })
}

/// Whether a 32-bit Thumb instruction belongs to the floating-point unit.
fn is_float_instruction(first: u16, second: u16) -> bool {
    let coprocessor_space = matches!(first >> 10, 0b11_1011 | 0b11_1111);
    coprocessor_space && matches!(second >> 8 & 0xf, 10 | 11)
}

/// Whether this halfword begins a 32-bit instruction.
fn is_wide(first: u16) -> bool {
    matches!(first >> 11, 0b11101..=0b11111)
}

/// Whether a 32-bit Thumb instruction is of any coprocessor or of the vector extension, integer or not
/// ("Armv8-M Architecture Reference Manual", C2.2.4 and C2.3: both have the coprocessors' encodings).
fn is_coprocessor_or_vector(first: u16, _: u16) -> bool {
    matches!(first >> 10, 0b11_1011 | 0b11_1111)
}

/// Address and halfwords of the first instruction that is `wanted` in code at `address`.
fn first_instruction(
    address: u64,
    code: &[u8],
    wanted: fn(u16, u16) -> bool,
) -> Option<(u64, u16, u16)> {
    let half = |i: usize| code.get(i..i + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let mut at = 0;
    while let Some(first) = half(at) {
        match half(at + 2) {
            Some(second) if is_wide(first) => {
                if wanted(first, second) {
                    return Some((address + at as u64, first, second));
                }
                at += 4;
            }
            _ => at += 2,
        }
    }
    None
}

struct Scan {
    code_bytes: usize,
    symbols: usize,
    float_routines: Vec<String>,
    float_instruction: Option<(u64, u16, u16)>,
    heap: Vec<String>,
}

fn scan(elf: &Path) -> Scan {
    let data = std::fs::read(elf).unwrap();
    let file = object::File::parse(&*data).unwrap();
    if file.architecture() == Architecture::Riscv32 {
        return scan_riscv(elf, &file);
    }
    let names: Vec<String> = file
        .symbols()
        .filter_map(|s| s.name().ok().map(str::to_owned))
        .collect();
    let matching =
        |f: &dyn Fn(&str) -> bool| names.iter().filter(|n| f(n)).cloned().collect::<Vec<_>>();
    // Mapping symbols ("ELF for the Arm Architecture", 5.5.5): $t begins Thumb code, $d data.
    let mut marks: Vec<(u64, bool)> = file
        .symbols()
        .filter_map(|s| match s.name() {
            Ok(n) if n == "$t" || n.starts_with("$t.") => Some((s.address() & !1, true)),
            Ok(n) if n == "$d" || n.starts_with("$d.") => Some((s.address(), false)),
            _ => None,
        })
        .collect();
    marks.sort_unstable();
    assert!(
        marks.iter().any(|m| m.1),
        "{}: no mapping symbols, so code cannot be told from data",
        elf.display()
    );
    // Where the kernels' assembly uses vectors, its functions are left out and the rest may not.
    let mut functions: Vec<(u64, &str)> = file
        .symbols()
        .filter(|s| s.kind() == SymbolKind::Text)
        .filter_map(|s| Some((s.address() & !1, s.name().ok()?)))
        .filter(|s| !s.1.starts_with('$'))
        .collect();
    functions.sort_unstable();
    let vectors = functions.iter().any(|f| f.1 == VECTOR_FUNCTION);
    let wanted = match vectors {
        true => is_coprocessor_or_vector,
        false => is_float_instruction,
    };
    let is_ours = |address: u64| {
        let behind = functions.partition_point(|f| f.0 <= address);
        vectors && behind > 0 && functions[behind - 1].1.starts_with("qmend_")
    };
    if vectors {
        // Begin anew at each function.
        marks.extend(functions.iter().map(|f| (f.0, true)));
        marks.sort_unstable();
        marks.dedup_by_key(|m| m.0);
    }
    let (mut code_bytes, mut float_instruction) = (0, None);
    for section in file.sections() {
        if section.kind() != SectionKind::Text {
            continue;
        }
        let (start, bytes) = (section.address(), section.data().unwrap());
        let end = start + bytes.len() as u64;
        // Bytes before the first mark are taken for code as well.
        let inside = marks
            .iter()
            .filter(|m| (start..end).contains(&m.0))
            .copied();
        let edges: Vec<(u64, bool)> = std::iter::once((start, true)).chain(inside).collect();
        for (i, &(from, is_code)) in edges.iter().enumerate() {
            let to = edges.get(i + 1).map_or(end, |e| e.0);
            if is_code && from < to {
                let code = &bytes[(from - start) as usize..(to - start) as usize];
                code_bytes += code.len();
                if !is_ours(from) {
                    float_instruction = float_instruction.or(first_instruction(from, code, wanted));
                }
            }
        }
    }
    Scan {
        code_bytes,
        symbols: names.len(),
        float_routines: matching(&is_float_routine),
        float_instruction,
        heap: matching(&is_heap),
    }
}

/// What the linker has put together of the compiler's records ("RISC-V ELF psABI", attributes).
fn scan_riscv(elf: &Path, file: &object::File) -> Scan {
    let records = file
        .section_by_name(".riscv.attributes")
        .and_then(|s| s.data().ok())
        .unwrap_or_else(|| panic!("{}: no record of the architecture", elf.display()));
    let text = String::from_utf8_lossy(records);
    let at = text.find("rv32i").expect("the architecture's name");
    let name: String = text[at..].chars().take_while(|c| *c != '\0').collect();
    let float = name.split('_').any(|part| {
        ["f", "d", "q", "zf", "zd", "zh", "v"]
            .iter()
            .any(|f| part.starts_with(f))
    });
    assert!(!float, "{}: {name}", elf.display());
    let FileFlags::Elf { e_flags, .. } = file.flags() else {
        panic!("{}: not an ELF file", elf.display());
    };
    assert_eq!(e_flags.0 & object::elf::EF_RISCV_FLOAT_ABI, 0, "float ABI");
    let names: Vec<String> = file
        .symbols()
        .filter_map(|s| s.name().ok().map(str::to_owned))
        .collect();
    let text = file.sections().filter(|s| s.kind() == SectionKind::Text);
    let matching =
        |f: &dyn Fn(&str) -> bool| names.iter().filter(|n| f(n)).cloned().collect::<Vec<_>>();
    Scan {
        code_bytes: text.map(|s| s.size() as usize).sum(),
        symbols: names.len(),
        float_routines: matching(&is_float_routine),
        float_instruction: None,
        heap: matching(&is_heap),
    }
}

fn is_heap(name: &str) -> bool {
    name.contains("__rust_alloc")
        || name.contains("__rg_alloc")
        || name == "malloc"
        || name == "_sbrk"
}

fn firmware_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target-firmware");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|x| x == "elf"))
        .collect()
}

#[test]
fn the_firmware_holds_no_float_and_no_heap() {
    let files = firmware_files();
    if files.is_empty() {
        assert!(
            !device_is_required(),
            "the firmware is not built: firmware/build.sh"
        );
        println!(
            "SKIPPED the_firmware_holds_no_float_and_no_heap: no firmware, build it with firmware/build.sh"
        );
        return;
    }
    for file in files {
        let scan = scan(&file);
        println!(
            "{}: {} bytes of code, {} symbols",
            file.display(),
            scan.code_bytes,
            scan.symbols
        );
        assert!(
            scan.code_bytes > 1000 && scan.symbols > 20,
            "too little was seen of {}",
            file.display()
        );
        assert_eq!(
            scan.float_routines,
            [""; 0],
            "floating-point routines in {}",
            file.display()
        );
        assert_eq!(
            scan.float_instruction,
            None,
            "floating-point instruction in {}",
            file.display()
        );
        assert_eq!(scan.heap, [""; 0], "a heap in {}", file.display());
    }
}

#[test]
fn the_vector_assembly_names_integer_types_only() {
    let source = include_str!("../../shared/src/kernels/helium/helium.s");
    let mut vectors = 0;
    for line in source.lines() {
        let code = line.split('@').next().unwrap_or_default();
        for word in code.split(|c: char| !(c.is_ascii_alphanumeric() || "._".contains(c))) {
            let mut parts = word.split('.');
            if !parts.next().is_some_and(|name| name.starts_with('v')) {
                continue;
            }
            vectors += 1;
            for kind in parts {
                let integer = kind.trim_start_matches(['i', 's', 'u']);
                assert!(
                    ["8", "16", "32"].contains(&integer) || kind.is_empty(),
                    "{line}"
                );
            }
        }
    }
    assert!(vectors > 100, "{vectors}");
    // Where a type is a macro's argument it is one of these.
    let given: Vec<&str> = source
        .lines()
        .filter_map(|l| l.trim().strip_prefix("SIX "))
        .filter_map(|l| l.split(',').next())
        .collect();
    assert!(
        given.len() >= 3 && given.iter().all(|k| ["s8", "u8"].contains(k)),
        "{given:?}"
    );
}

#[test]
fn float_instructions_are_told_from_others() {
    for (name, first, second) in [
        ("vadd.f32 s0, s0, s0", 0xEE30, 0x0A00),
        ("vmul.f32 s1, s2, s3", 0xEE61, 0x0A21),
        ("vldr s0, [r0]", 0xED90, 0x0A00),
        ("vpush {d8}", 0xED2D, 0x8B02),
        ("vmov r0, s0", 0xEE10, 0x0A10),
        ("vmul.f64 d0, d1, d2", 0xEE21, 0x0B02),
        ("vsel.f32", 0xFE00, 0x0A00),
    ] {
        assert!(
            is_wide(first) && is_float_instruction(first, second),
            "{name}"
        );
    }
    for (name, first, second) in [
        ("mrc p15, 0, r0, c1, c0, 0", 0xEE11, 0x0F10),
        ("ldrd r0, r10, [r1]", 0xE9D1, 0x0A00),
        ("smlad r0, r1, r2, r3", 0xFB21, 0x3002),
        ("bl", 0xF000, 0xFA0A),
        ("ldr.w r10, [r0]", 0xF8D0, 0xA000),
        ("and.w r10, r0, r1", 0xEA00, 0x0A01),
    ] {
        assert!(!is_float_instruction(first, second), "{name}");
    }
    for (name, first, second) in [
        ("vmladava.s8 r0, q0, q1", 0xEEF0, 0x0F22),
        ("vldrb.u8 q0, [r1], #16", 0xECB1, 0x1E10),
        ("vadd.f32 q0, q0, q1", 0xEF00, 0x0D42),
        ("vqrdmulh.s32 q3, q3, q1", 0xFF26, 0x6B42),
        ("vpush {d8-d15}", 0xED2D, 0x8B10),
    ] {
        assert!(is_coprocessor_or_vector(first, second), "{name}");
    }
    for (name, first, second) in [
        ("dlstp.8 lr, lr", 0xF00E, 0xE001),
        ("letp lr, .", 0xF01F, 0xC001),
        ("stm.w r12!, {r0, r2}", 0xE8AC, 0x0005),
        ("smmulr r0, r1, r2", 0xFB51, 0xF012),
    ] {
        assert!(!is_coprocessor_or_vector(first, second), "{name}");
    }
    // movs; vadd.f32; the second half of a wide instruction is not taken for a first.
    let code = [0x00, 0x20, 0x11, 0xEE, 0x30, 0xEE, 0x30, 0xEE, 0x00, 0x0A];
    assert_eq!(
        first_instruction(0x100, &code, is_float_instruction),
        Some((0x106, 0xEE30, 0x0A00))
    );
}

#[test]
fn float_routines_are_told_from_others() {
    for name in [
        "__aeabi_fadd",
        "__aeabi_dmul",
        "__aeabi_i2f",
        "__aeabi_ul2d",
        "__aeabi_cfcmple",
        "__aeabi_f2iz",
        "__addsf3",
        "__muldf3",
        "__floatsisf",
        "__fixunsdfdi",
        "__extendhfsf2",
        "__powidf2",
        "__unordsf2",
        "_ZN4core3num7flt2dec8strategy5grisu19format_shortest_opt17h0E",
    ] {
        assert!(is_float_routine(name), "{name}");
    }
    for name in [
        "__aeabi_uldivmod",
        "__aeabi_idiv",
        "__aeabi_memcpy4",
        "__aeabi_lmul",
        "__aeabi_unwind_cpp_pr0",
        "__muldi3",
        "__udivsi3",
        "main",
        "SysTick",
    ] {
        assert!(!is_float_routine(name), "{name}");
    }
}
