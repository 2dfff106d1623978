//! Names of layers that fit into a table.

/// Columns that a name may take.
const WIDEST: usize = 40;

/// A layer's name for people: as it is where it is short; else the last two parts of its path, of
/// the first where a converter joined several with `;`, without its middle where that is still too
/// long. Two layers can have one short name, so tables number them.
pub fn short_name(name: &str) -> String {
    fitting(name, WIDEST)
}

/// As [`short_name`], in at most `widest` columns.
pub fn fitting(name: &str, widest: usize) -> String {
    let length = |s: &str| s.chars().count();
    if length(name) <= widest && !name.contains(';') {
        return name.to_string();
    }
    let first = name.split(';').next().unwrap_or(name);
    let parts: Vec<&str> = first.split('/').filter(|p| !p.is_empty()).collect();
    let last = parts[parts.len().saturating_sub(2)..].join("/");
    let short = if last.is_empty() {
        name.to_string()
    } else {
        last
    };
    let n = length(&short);
    if n <= widest {
        return short;
    }
    let head: String = short.chars().take(widest / 3).collect();
    let tail: String = short.chars().skip(n + 1 + widest / 3 - widest).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_stay_and_joined_ones_become_the_end_of_their_first_path() {
        for same in ["conv1", "/layer1/0/conv/Conv", "model/dense/BiasAdd", ""] {
            assert_eq!(short_name(same), same);
        }
        let fused = "model/activation_3/Relu;model/batch_normalization_3/FusedBatchNormV3;model/conv2d_3/BiasAdd/ReadVariableOp/resource";
        assert_eq!(short_name(fused), "activation_3/Relu");
        let deep = "StatefulPartitionedCall/functional_1/average_pooling2d/AvgPool";
        assert_eq!(short_name(deep), "average_pooling2d/AvgPool");
    }

    #[test]
    fn what_is_still_too_long_keeps_both_ends() {
        let long = "abcdefghij".repeat(10);
        let s = short_name(&long);
        assert_eq!(s.chars().count(), WIDEST);
        assert!(s.starts_with("abcdefghijabc…") && s.ends_with("hij"), "{s}");
        // Neither a name of separators alone nor one that is not ASCII breaks it.
        let slashes = "/;".repeat(40);
        assert!(!short_name(&slashes).is_empty());
        assert_eq!(fitting(&"ö".repeat(50), 9).chars().count(), 9);
    }
}
