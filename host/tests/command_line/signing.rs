//! Keys, signed models, and what is said of them.

use super::support::*;

fn keys(at: &std::path::Path, name: &str) -> String {
    let v = json(at, &["keygen", "-o", name]);
    assert_eq!(v["public"], format!("{name}.pub"), "{v}");
    v["key_id"].as_str().expect("an id").to_string()
}

#[test]
fn a_key_pair_is_readable_for_its_owner_alone_and_never_replaced_unasked() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    let id = keys(at, "key");
    assert_eq!(files(at), ["key", "key.pub"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let meta = std::fs::metadata(at.join("key")).expect("the key");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }
    let old = std::fs::read(at.join("key")).expect("the key");
    refused(at, &["keygen", "-o", "key"], &["--force"]);
    // The public key alone is in the way too.
    std::fs::remove_file(at.join("key")).expect("removed");
    refused(at, &["keygen", "-o", "key"], &["key.pub", "--force"]);
    assert_eq!(files(at), ["key.pub"]);
    let v = json(at, &["keygen", "-o", "key", "--force"]);
    assert_ne!(v["key_id"], id.as_str());
    assert_ne!(std::fs::read(at.join("key")).expect("the key"), old);
}

#[test]
fn a_signed_model_is_the_model_and_its_signature_is_verified() {
    let dir = quantized("4");
    let at = dir.path();
    let id = keys(at, "key");
    keys(at, "other");
    let v = json(at, &["sign", "m.qmend", "--key", "key", "--version", "3"]);
    assert_eq!(
        (&v["output"], &v["version"], &v["key_id"]),
        (&"m.signed.qmend".into(), &3.into(), &id.clone().into())
    );
    let image = std::fs::read(at.join("m.qmend")).expect("the model");
    let signed = std::fs::read(at.join("m.signed.qmend")).expect("the signed model");
    assert_eq!(signed.len(), image.len() + 160);
    assert!(signed.starts_with(&image));

    let v = json(at, &["inspect", "m.signed.qmend"]);
    assert_eq!(v["signature"]["version"], 3, "{v}");
    assert_eq!(v["signature"]["verified"], serde_json::Value::Null, "{v}");
    let v = json(at, &["inspect", "m.signed.qmend", "--key", "key.pub"]);
    let s = &v["signature"];
    assert_eq!(
        (&s["key_id"], &s["image_matches"], &s["verified"]),
        (&id.into(), &true.into(), &true.into()),
        "{v}"
    );
    // Another key, no signature, a changed byte: exit code 1.
    let fails = |args: &[&str]| {
        let out = qmend(at, args);
        assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
        text(&out.stderr)
    };
    assert!(fails(&["inspect", "m.signed.qmend", "--key", "other.pub"]).contains("NOT"));
    assert!(fails(&["inspect", "m.qmend", "--key", "key.pub"]).contains("not signed"));
    let mut bad = signed.clone();
    // In the signed version.
    bad[image.len() + 8] = 4;
    put(at, "bad.qmend", &bad);
    assert!(fails(&["inspect", "bad.qmend", "--key", "key.pub"]).contains("NOT"));
    // In the tag: said before anything is done with the model.
    bad[image.len() + 4] = 9;
    put(at, "bad.qmend", &bad);
    refused(at, &["inspect", "bad.qmend"], &["signature", "qmend sign"]);

    // Every command takes it as the model that it is.
    let data = images("0..3");
    let args = ["verify", "m.signed.qmend", "--data", &data];
    let v = json(at, &[&args[..], &["--device", "host"]].concat());
    assert_eq!(v["identical"], true, "{v}");
    assert_eq!(v["device"]["image_bytes"], image.len(), "{v}");
    let w = json(at, &["verify", "m.qmend", "--data", &data]);
    assert_eq!(v["image_sha256"], w["image_sha256"]);
    // Signing again replaces the signature.
    let args = ["sign", "m.signed.qmend", "-k", "other", "-o", "n.qmend"];
    json(at, &args);
    let again = std::fs::read(at.join("n.qmend")).expect("written");
    assert_eq!(again.len(), signed.len());
    let v = json(at, &["inspect", "n.qmend", "--key", "other.pub"]);
    assert_eq!(v["signature"]["version"], 1, "{v}");
}

#[test]
fn a_patch_to_a_signed_model_carries_its_signature() {
    let dir = quantized("4");
    let at = dir.path();
    let other = quantized("3");
    std::fs::copy(other.path().join("m.qmend"), at.join("o.qmend")).expect("a copy");
    keys(at, "key");
    json(at, &["sign", "o.qmend", "--key", "key", "-o", "o.signed"]);
    json(at, &["diff", "m.qmend", "o.qmend", "-o", "bare.qpatch"]);
    let v = json(at, &["diff", "m.qmend", "o.signed", "-o", "p.qpatch"]);
    assert_eq!(v["signed"], true, "{v}");
    let (bare, patch) = (
        std::fs::read(at.join("bare.qpatch")).expect("written"),
        std::fs::read(at.join("p.qpatch")).expect("written"),
    );
    let signed = std::fs::read(at.join("o.signed")).expect("written");
    assert_eq!(patch, [&bare[..], &signed[signed.len() - 160..]].concat());
    // The record of a flash file has the version.
    let args = ["flash", "o.signed", "--board", "microbit", "--out"];
    let v = json(at, &[&args[..], &["f.bin"]].concat());
    assert_eq!(v["version"], 1, "{v}");
    let image = signed.len() - 160;
    assert_eq!(v["image_bytes"], image, "{v}");
    let bin = std::fs::read(at.join("f.bin")).expect("written");
    assert_eq!(bin[bin.len() - 32..][20..24], [1, 0, 0, 0]);
}

#[test]
fn wrong_keys_are_named_with_what_belongs_there() {
    let dir = quantized("8");
    let at = dir.path();
    keys(at, "key");
    put(at, "text", "no key");
    let sign = |key: &'static str| ["sign", "m.qmend", "--key", key];
    refused(at, &sign("text"), &["text", "private key", "qmend keygen"]);
    refused(at, &sign("key.pub"), &["key.pub", "private key"]);
    refused(at, &sign("nowhere"), &["nowhere"]);
    refused(at, &["inspect", "m.qmend", "--key", "key"], &[".pub"]);
    refused(at, &["inspect", MODEL, "--key", "key.pub"], &["integer"]);
    let zero = [&sign("key")[..], &["--version", "0"]].concat();
    refused(at, &zero, &["version"]);
    json(at, &sign("key"));
    refused(at, &sign("key"), &["--force"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(at.join("key"), open).expect("changed");
        let out = qmend(at, &[&sign("key")[..], &["--force"]].concat());
        assert!(text(&out.stderr).contains("chmod 600"));
    }
}

#[test]
fn openssl_reads_the_keys_and_verifies_the_signature() {
    let openssl = |args: &[&str], at: &std::path::Path| {
        let out = std::process::Command::new("openssl");
        let mut out = out;
        out.args(args).current_dir(at).output()
    };
    let dir = quantized("8");
    let at = dir.path();
    if openssl(&["version"], at).is_err() {
        println!("SKIPPED: keys and signatures of OpenSSL: it is not installed");
        return;
    }
    // Its private key signs here, and it derives our public key.
    let args = ["genpkey", "-algorithm", "ed25519", "-out", "theirs"];
    let made = openssl(&args, at).expect("it runs");
    assert!(made.status.success(), "{}", text(&made.stderr));
    keys(at, "ours");
    let public = openssl(&["pkey", "-in", "ours", "-pubout"], at).expect("it runs");
    let own = std::fs::read_to_string(at.join("ours.pub")).expect("the public key");
    assert_eq!(text(&public.stdout).trim(), own.trim());
    json(at, &["sign", "m.qmend", "--key", "theirs"]);
    let file = std::fs::read(at.join("m.signed.qmend")).expect("written");
    let block = &file[file.len() - 160..];
    put(at, "message", &block[..96]);
    put(at, "signature", &block[96..]);
    put(at, "image", &file[..file.len() - 160]);
    let args = ["pkeyutl", "-verify", "-inkey", "theirs", "-rawin"];
    let rest = ["-in", "message", "-sigfile", "signature"];
    let out = openssl(&[&args[..], &rest].concat(), at).expect("it runs");
    assert!(out.status.success(), "{}", text(&out.stderr));
    let hash = openssl(&["dgst", "-sha512", "-r", "image"], at).expect("it runs");
    let hex: String = block[32..96].iter().map(|b| format!("{b:02x}")).collect();
    assert!(text(&hash.stdout).starts_with(&hex));
}
