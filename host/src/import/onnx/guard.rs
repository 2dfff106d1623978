//! A first walk over untrusted bytes, before the parser sees them.
//!
//! ONNX messages contain themselves (a graph in an attribute of a node of a graph, a sequence of
//! sequences), and a recursive parser follows wherever the bytes lead: a crafted file of a few
//! kilobytes would exhaust the stack. This walk follows the same fields with a bound on depth and
//! on the number of messages, and refuses fields whose wire type is not that of the schema, so that
//! walk and parser cannot read the same bytes in different ways. Field numbers are those of
//! `onnx.proto3` (<https://onnx.ai/onnx/repo-docs/IR.html>).

/// Deeper nesting than this is refused; networks without control flow need 8.
const MAX_DEPTH: usize = 48;
/// More messages than this are refused; each costs the parser less than a kilobyte.
const MAX_MESSAGES: usize = 500_000;

#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    ValueInfo,
    Type,
    Optional,
    Map,
    Training,
    Function,
    /// Contains nothing that contains itself.
    Leaf,
}

enum Field {
    Varint,
    Fixed32,
    Bytes,
    /// One number, or many packed.
    Repeated(u8),
    Nested(Message),
    Unknown,
}

fn field(message: Message, number: u64) -> Field {
    use Field::{Bytes, Fixed32, Nested, Repeated, Unknown, Varint};
    use Message as M;
    match (message, number) {
        (M::Model, 1 | 5) => Varint,
        (M::Model, 2 | 3 | 4 | 6) => Bytes,
        (M::Model, 7) => Nested(M::Graph),
        (M::Model, 8 | 14) => Nested(M::Leaf),
        (M::Model, 20) => Nested(M::Training),
        (M::Model, 25) => Nested(M::Function),
        (M::Graph, 1) => Nested(M::Node),
        (M::Graph, 2 | 10) => Bytes,
        (M::Graph, 5 | 14 | 15 | 16) => Nested(M::Leaf),
        (M::Graph, 11..=13) => Nested(M::ValueInfo),
        (M::Node, 1 | 2 | 3 | 4 | 6 | 7 | 8) => Bytes,
        (M::Node, 5) => Nested(M::Attribute),
        (M::Node, 9) => Nested(M::Leaf),
        (M::Attribute, 2) => Fixed32,
        (M::Attribute, 3 | 20) => Varint,
        (M::Attribute, 1 | 4 | 9 | 13 | 21) => Bytes,
        (M::Attribute, 5 | 10 | 22 | 23) => Nested(M::Leaf),
        (M::Attribute, 6 | 11) => Nested(M::Graph),
        (M::Attribute, 7) => Repeated(5),
        (M::Attribute, 8) => Repeated(0),
        (M::Attribute, 14 | 15) => Nested(M::Type),
        (M::ValueInfo, 1 | 3) => Bytes,
        (M::ValueInfo, 2) => Nested(M::Type),
        (M::ValueInfo, 4) => Nested(M::Leaf),
        (M::Type, 1 | 8) => Nested(M::Leaf),
        (M::Type, 4 | 9) => Nested(M::Optional),
        (M::Type, 5) => Nested(M::Map),
        (M::Type, 6) => Bytes,
        (M::Optional, 1) => Nested(M::Type),
        (M::Map, 1) => Varint,
        (M::Map, 2) => Nested(M::Type),
        (M::Training, 1 | 2) => Nested(M::Graph),
        (M::Training, 3 | 4) => Nested(M::Leaf),
        (M::Function, 1 | 4 | 5 | 6 | 8 | 10 | 13) => Bytes,
        (M::Function, 7) => Nested(M::Node),
        (M::Function, 9 | 14) => Nested(M::Leaf),
        (M::Function, 11) => Nested(M::Attribute),
        (M::Function, 12) => Nested(M::ValueInfo),
        _ => Unknown,
    }
}

/// Checks nesting, number of messages and wire types of a serialized `ModelProto`.
///
/// # Errors
/// What is wrong with the bytes.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    walk(bytes, Message::Model, 0, &mut 0)
}

fn walk(mut bytes: &[u8], message: Message, depth: usize, count: &mut usize) -> Result<(), String> {
    *count += 1;
    if *count > MAX_MESSAGES {
        return Err(format!("more than {MAX_MESSAGES} messages"));
    }
    if depth > MAX_DEPTH {
        return Err(format!("messages nested more than {MAX_DEPTH} deep"));
    }
    if matches!(message, Message::Leaf) {
        return Ok(());
    }
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let (number, wire) = (tag >> 3, (tag & 7) as u8);
        if number == 0 || number > (1 << 29) - 1 {
            return Err(format!("field number {number}"));
        }
        let field = field(message, number);
        let right = match &field {
            Field::Varint => wire == 0,
            Field::Fixed32 => wire == 5,
            Field::Bytes | Field::Nested(_) => wire == 2,
            Field::Repeated(single) => wire == 2 || wire == *single,
            Field::Unknown => true,
        };
        if !right {
            return Err(format!("field {number} has wire type {wire}"));
        }
        match wire {
            0 => {
                varint(&mut bytes)?;
            }
            1 => {
                take(&mut bytes, 8)?;
            }
            2 => {
                let length = varint(&mut bytes)?;
                let content = take(&mut bytes, usize::try_from(length).unwrap_or(usize::MAX))?;
                if let Field::Nested(inner) = field {
                    walk(content, inner, depth + 1, count)?;
                }
            }
            5 => {
                take(&mut bytes, 4)?;
            }
            _ => return Err(format!("wire type {wire}")),
        }
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for i in 0..10 {
        let byte = take(bytes, 1)?[0];
        if i == 9 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number longer than 64 bits".into())
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8], String> {
    let (head, tail) = bytes.split_at_checked(n).ok_or_else(|| {
        format!(
            "a field of {n} bytes where {} are left (the file is cut short?)",
            bytes.len()
        )
    })?;
    *bytes = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nest(levels: usize) -> Vec<u8> {
        let message = |number: u8, content: &[u8]| {
            let mut out = vec![number << 3 | 2];
            let mut n = content.len();
            while n >= 0x80 {
                out.push(n as u8 | 0x80);
                n >>= 7;
            }
            out.push(n as u8);
            out.extend_from_slice(content);
            out
        };
        let mut graph = Vec::new();
        for _ in 0..levels {
            graph = message(1, &message(5, &message(6, &graph)));
        }
        message(7, &graph)
    }

    #[test]
    fn nesting_that_would_exhaust_the_parsers_stack_is_refused() {
        assert_eq!(check(&nest(5)), Ok(()));
        assert!(check(&nest(5_000)).unwrap_err().contains("nested"));
    }

    #[test]
    fn a_message_disguised_as_a_number_is_refused() {
        assert!(check(&[7 << 3, 0]).unwrap_err().contains("wire type 0"));
    }

    #[test]
    fn a_field_longer_than_the_file_is_refused() {
        assert!(
            check(&[7 << 3 | 2, 100, 0])
                .unwrap_err()
                .contains("cut short")
        );
    }
}
