//! ELF files (System V ABI, "Executable and Linkable Format") as far as flash contents need them:
//! what a programmer loads where.

use super::ExportError;

/// Pieces of flash: address and bytes.
pub type Parts = Vec<(u32, Vec<u8>)>;

const FILE_HEADER: usize = 52;
const PROGRAM_HEADER: usize = 32;
const SECTION_HEADER: usize = 40;
const MAGIC: [u8; 4] = *b"\x7fELF";
const LOAD: u32 = 1;

/// A 32-bit little-endian executable for Arm that holds nothing but these parts: a loadable segment
/// and a section each (GDB loads sections, other programmers segments).
pub fn write_elf(parts: &[(u32, Vec<u8>)], entry: u32) -> Vec<u8> {
    let names: Vec<String> = (0..parts.len()).map(|i| format!(".flash{i}")).collect();
    let mut strings = vec![0u8];
    let mut places = Vec::new();
    for name in names.iter().map(String::as_str).chain([".shstrtab"]) {
        places.push(strings.len() as u32);
        strings.extend(name.as_bytes());
        strings.push(0);
    }
    let data_at = FILE_HEADER + PROGRAM_HEADER * parts.len();
    let data: usize = parts.iter().map(|p| p.1.len()).sum();
    let strings_at = data_at + data;
    let sections_at = (strings_at + strings.len()).next_multiple_of(4);
    let mut file = Vec::with_capacity(sections_at + SECTION_HEADER * (parts.len() + 2));
    file.extend(MAGIC);
    // 32 bits, little-endian, version 1.
    file.extend([1, 1, 1]);
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, n: usize| file.extend((n as u16).to_le_bytes());
    let words = |file: &mut Vec<u8>, list: &[u32]| {
        list.iter().for_each(|w| file.extend(w.to_le_bytes()));
    };
    half(&mut file, 2); // an executable
    half(&mut file, 40); // for Arm
    // EABI version 5.
    let tables = [entry, FILE_HEADER as u32, sections_at as u32, 0x0500_0000];
    words(&mut file, &[1]);
    words(&mut file, &tables);
    for n in [
        FILE_HEADER,
        PROGRAM_HEADER,
        parts.len(),
        SECTION_HEADER,
        parts.len() + 2,
        parts.len() + 1,
    ] {
        half(&mut file, n);
    }
    let mut at = data_at as u32;
    for (address, bytes) in parts {
        let len = bytes.len() as u32;
        // Readable, aligned to bytes.
        words(&mut file, &[LOAD, at, *address, *address, len, len, 4, 1]);
        at += len;
    }
    parts.iter().for_each(|p| file.extend(&p.1));
    file.extend(&strings);
    file.resize(sections_at, 0);
    words(&mut file, &[0; 10]);
    let mut at = data_at as u32;
    for ((address, bytes), name) in parts.iter().zip(&places) {
        let len = bytes.len() as u32;
        // PROGBITS, ALLOC.
        words(&mut file, &[*name, 1, 2, *address, at, len, 0, 0, 1, 0]);
        at += len;
    }
    let name = places.last().copied().unwrap_or_default();
    let (at, len) = (strings_at as u32, strings.len() as u32);
    words(&mut file, &[name, 3, 0, 0, at, len, 0, 0, 1, 0]);
    file
}

/// What a 32-bit little-endian ELF file puts into flash, by the physical addresses of its loadable
/// segments, and its entry point.
///
/// # Errors
/// Bytes that are no such file, or one that is cut off.
pub fn read_elf(file: &[u8]) -> Result<(Parts, u32), ExportError> {
    let bad = |problem: &str| ExportError::Elf {
        problem: problem.into(),
    };
    let word = |at: usize| {
        let bytes = at.checked_add(4).and_then(|end| file.get(at..end));
        bytes
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .ok_or_else(|| bad("it is cut off"))
    };
    let half = |at: usize| word(at).map(|w| (w & 0xffff) as usize);
    if !file.starts_with(&MAGIC) || file.get(4..6) != Some(&[1, 1]) {
        return Err(bad("it is not a 32-bit little-endian ELF file"));
    }
    let (entry, table) = (word(24)?, word(28)? as usize);
    let (size, count) = (half(42)?, half(44)?);
    if size < PROGRAM_HEADER {
        return Err(bad("it has no loadable segments"));
    }
    let mut parts = Parts::new();
    for i in 0..count {
        let at = table
            .checked_add(i * size)
            .ok_or_else(|| bad("it is cut off"))?;
        let (kind, offset, address, len) = (
            word(at)?,
            word(at.saturating_add(4))? as usize,
            word(at.saturating_add(12))?,
            word(at.saturating_add(16))? as usize,
        );
        if kind != LOAD || len == 0 {
            continue;
        }
        let bytes = offset
            .checked_add(len)
            .and_then(|end| file.get(offset..end));
        let bytes = bytes.ok_or_else(|| bad("a segment is cut off"))?;
        if u64::from(address) + len as u64 > 1 << 32 {
            return Err(bad("a segment reaches beyond 2^32"));
        }
        parts.push((address, bytes.to_vec()));
    }
    if parts.is_empty() {
        return Err(bad("it has no loadable segments"));
    }
    Ok((parts, entry))
}

/// Two parts that share bytes, if any do.
pub fn overlap(parts: &[(u32, Vec<u8>)]) -> Option<(u32, u32)> {
    let mut order: Vec<_> = parts.iter().collect();
    order.sort_by_key(|p| p.0);
    order.windows(2).find_map(|pair| {
        let end = u64::from(pair[0].0) + pair[0].1.len() as u64;
        (end > u64::from(pair[1].0)).then_some((pair[0].0, pair[1].0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_a_cut_file_does_not() {
        let parts = vec![(0x0800_0000, vec![1, 2, 3]), (0x0801_0000, vec![4; 700])];
        let file = write_elf(&parts, 0x0800_0011);
        assert_eq!(read_elf(&file), Ok((parts.clone(), 0x0800_0011)));
        for len in 0..FILE_HEADER + 2 * PROGRAM_HEADER + 703 {
            assert!(read_elf(&file[..len]).is_err(), "{len} bytes");
        }
        // Whatever stands in it, there is no panic and nothing from outside of it.
        for at in 0..FILE_HEADER + 2 * PROGRAM_HEADER {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = file.clone();
                bad[at] = value;
                if let Ok((parts, _)) = read_elf(&bad) {
                    assert!(parts.iter().map(|p| p.1.len()).sum::<usize>() <= 2 * bad.len());
                }
            }
        }
        assert!(read_elf(b"QMND").is_err());
    }

    #[test]
    fn parts_that_share_bytes_are_found() {
        let part = |at, n| (at, vec![0; n]);
        assert_eq!(overlap(&[part(16, 16), part(0, 16), part(32, 1)]), None);
        assert_eq!(
            overlap(&[part(16, 16), part(0, 17), part(32, 1)]),
            Some((0, 16))
        );
    }
}
