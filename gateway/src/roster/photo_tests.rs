use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::config::Employer;
use crate::roster::{RosterFile, parse};

const FACE: &[u8] = include_bytes!("../../../tests/fixtures/mqtt_face/face_tiny.jpg");

#[test]
fn a_picture_as_base64_becomes_the_workers_photo() {
    let bare = STANDARD.encode(FACE);
    let lines = bare.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>();
    let written = [
        bare.clone(),
        format!("data:image/jpeg;base64,{bare}"),
        bare.trim_end_matches('=').to_owned(),
        format!("\"data:image/jpeg;base64,{bare}\"").replace("base64,", "base64, "),
        format!("\"{}\"", lines.join("\r\n")),
    ];
    for photo in written {
        let quoted = if photo.contains(',') && !photo.starts_with('"') { format!("\"{photo}\"") } else { photo };
        let file = read(&[&quoted]).unwrap();
        let hash = PhotoHash::of(FACE);
        assert_eq!(file.workers[0].photo, Some(hash), "{quoted}");
        assert_eq!(file.pictures.get(&hash).map(Vec::as_slice), Some(FACE));
        assert_eq!(file.named, []);
    }
}

#[test]
fn a_hash_names_a_photo_and_its_row() {
    let hash = PhotoHash([0xAB; 32]);
    let file = read(&["", &hash.to_string(), &hash.to_string().to_uppercase()]).unwrap();
    assert_eq!(file.workers.iter().map(|worker| worker.photo).collect::<Vec<_>>(), [None, Some(hash), Some(hash)]);
    assert!(file.pictures.is_empty());
    let named: Vec<_> = file.named.iter().map(|named| (named.line, named.worker.as_str(), named.hash)).collect();
    assert_eq!(named, [(Some(3), "W2", hash), (Some(4), "W3", hash)]);
    let problem = file.named[0].unknown().to_string();
    assert!(
        problem.starts_with(&format!("line 3: W2: photo = \"{hash}\": is no photo that the gateway has")),
        "{problem}"
    );
}

#[test]
fn the_same_picture_twice_is_one_picture() {
    let face = STANDARD.encode(FACE);
    let file = read(&[&face, &face]).unwrap();
    assert_eq!((file.workers.len(), file.pictures.len()), (2, 1));
}

#[test]
fn what_is_no_picture_is_named_with_its_line_and_not_dumped() {
    let png = STANDARD.encode(b"\x89PNG\r\n\x1a\n".repeat(1000));
    let cases = [
        ("me.jpg", "no Base64"),
        (png.as_str(), "no JPEG"),
        (&"ab".repeat(31), "64 hex digits"),
        (&STANDARD.encode(jpeg_of(LARGEST + 1)), "is a picture of 1025 KiB; the largest that is taken has 1024 KiB"),
    ];
    for (photo, word) in cases {
        let problems = read(&["", photo]).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!((problem.line, problem.column.as_deref()), (Some(3), Some("photo")), "{problem}");
        assert!(problem.reason.contains(word), "{word:?} is not said: {problem}");
        assert!(problem.to_string().len() < 300, "{problem}");
    }
    assert_eq!(read(&[&STANDARD.encode(jpeg_of(LARGEST))]).unwrap().pictures.len(), 1, "the largest is taken");
}

/// A cut text can be decoded too, to half a face.
#[test]
fn a_picture_that_a_spreadsheet_has_cut_off_is_refused() {
    let whole = STANDARD.encode(jpeg_of(60 * 1024));
    assert_eq!(read(&[&whole]).unwrap().pictures.len(), 1);
    let cut = &whole[..SPREADSHEET_CELL];
    assert!(photo::decode(cut).is_ok());
    let problems = read(&[cut]).unwrap_err();
    assert!(problems[0].reason.contains("cut off by the spreadsheet"), "{}", problems[0]);
    assert_eq!(problems[0].value.as_deref().map(|value| value.ends_with("… (32767 characters)")), Some(true));
}

/// As many bytes, of which the first are those of a JPEG.
fn jpeg_of(bytes: usize) -> Vec<u8> {
    FACE.iter().copied().chain(std::iter::repeat(0)).take(bytes).collect()
}

/// A file with one worker for each photo.
fn read(photos: &[&str]) -> Result<RosterFile, Vec<RowProblem>> {
    const ID_NUMBERS: [&str; 3] = ["110101199003070070", "11010519491231002X", "440524188001010014"];
    let mut text = "worker_id,name,id_number,employer,team,trade,photo\n".to_owned();
    for (at, photo) in photos.iter().enumerate() {
        text += &format!("W{},张三,{},昌建总承包,木工班,020,{photo}\n", at + 1, ID_NUMBERS[at]);
    }
    let (name, credit_code, corp_type) = ("昌建总承包".to_owned(), "91650000MA0000000K".to_owned(), "009".to_owned());
    parse(text.as_bytes(), &[Employer { name, credit_code, corp_type }])
}
