//! The family's signature: SHA-256 over the sorted parameters and the secret, all in lower case.

use sha2::{Digest, Sha256};

use crate::config::Secret;

/// The parameters as a form body, with their signature. Values are signed raw and encoded only here, so the `data` that
/// arrives is byte for byte the one that was signed.
pub fn form_body(params: &[(&str, &str)], secret: &Secret) -> String {
    let signature = signature(params, secret);
    let mut form = form_urlencoded::Serializer::new(String::new());
    let is_data = |(name, _): &&(&str, &str)| *name == "data";
    form.extend_pairs(params.iter().copied().filter(|pair| !is_data(&pair)));
    form.append_pair("sign", &signature);
    form.extend_pairs(params.iter().copied().filter(|pair| is_data(&pair)));
    form.finish()
}

/// Lower-case hex.
fn signature(params: &[(&str, &str)], secret: &Secret) -> String {
    hex::encode(Sha256::digest(canonical(params, secret)))
}

/// `name=value` sorted by name and joined by `&`, then the secret; the whole of it in lower case.
fn canonical(params: &[(&str, &str)], secret: &Secret) -> String {
    let mut sorted = params.to_vec();
    sorted.sort_unstable();
    let mut text = String::new();
    for (name, value) in sorted {
        text.push_str(name);
        text.push('=');
        text.push_str(value);
        text.push('&');
    }
    text.push_str("appsecret=");
    text.push_str(&secret.0);
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{family_a, profile, text};
    use super::*;
    use crate::config::AesKey;
    use crate::punch::UnixMs;
    use crate::upload::profiles::Method;

    /// 2026-03-02 18:05:00 at +08:00.
    const EVENING: UnixMs = UnixMs(1_772_445_900_000);

    fn pairs(vector: &serde_json::Value) -> Vec<(&str, &str)> {
        let params = vector["params"].as_object().unwrap();
        params.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect()
    }

    #[test]
    fn every_published_request_has_its_canonical_text_and_signature() {
        let vectors = family_a();
        let rows = vectors["family_a"].as_array().unwrap();
        assert_eq!(rows.len(), 8);
        for row in rows {
            let secret = Secret(text(row, "secret").to_owned());
            assert_eq!(canonical(&pairs(row), &secret), text(row, "to_hash"), "{}", row["name"]);
            assert_eq!(signature(&pairs(row), &secret), text(row, "sign"), "{}", row["name"]);
        }
    }

    #[test]
    fn the_public_unit_test_of_another_client_is_reproduced() {
        let params = [
            ("appid", "demo-app"),
            ("data", r#"[{"real_name":"张三"}]"#),
            ("format", "json"),
            ("method", "labourer.import"),
            ("nonce", "f050fcaee0bc490390e5d61aa5140351"),
            ("timestamp", "1590027113409"),
            ("version", "1.0"),
        ];
        let expected = "261b94f5d6026de8f2eff8d6bda22ac06aa7f361a9b066607df0bff11bd4c95a";
        assert_eq!(signature(&params, &Secret("1234567890abcdef".to_owned())), expected);
    }

    #[test]
    fn a_signed_request_is_the_published_form_body() {
        let vectors = family_a();
        for row in vectors["family_a"].as_array().unwrap().iter().take(2) {
            let profile = profile(text(row, "secret"), AesKey::Full, None);
            let params = &row["params"];
            let wire = profile.sign(Method::AddAttendance, text(params, "data"), EVENING, text(params, "nonce"));
            assert_eq!(wire.body, text(row, "form_body"));
        }
    }

    #[test]
    fn the_corporate_signature_is_sent_and_signed() {
        let vectors = family_a();
        let row = &vectors["family_a"][3];
        let profile = profile(text(row, "secret"), AesKey::Full, Some("corpkey-demo"));
        let wire = profile.sign(Method::AddAttendance, "{}", EVENING, text(&row["params"], "nonce"));
        let sent: Vec<(String, String)> = form_urlencoded::parse(wire.body.as_bytes()).into_owned().collect();
        let corpsign = ("corpsign".to_owned(), text(&row["params"], "corpsign").to_owned());
        assert!(sent.contains(&corpsign));
        assert!(sent.contains(&("sign".to_owned(), text(row, "sign").to_owned())));
    }
}
