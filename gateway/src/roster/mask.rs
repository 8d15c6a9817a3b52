//! Personal data as it may be shown: enough to recognise, not enough to misuse.

/// `张三丰` → `张*`.
pub fn name(name: &str) -> String {
    name.chars().next().map_or(String::new(), |first| format!("{first}*"))
}

/// `110101194912310016` → `110101********0016`; what is too short to be a number keeps only its first characters.
pub fn id_number(number: &str) -> String {
    middle(number, 6, 4, 8)
}

/// `6222020000000001234` → `****1234`.
pub fn bank_card(number: &str) -> String {
    middle(number, 0, 4, 4)
}

/// `13812345678` → `138****5678`.
pub fn phone(number: &str) -> String {
    middle(number, 3, 4, 4)
}

/// `E3086CED` → `****6CED`.
pub fn badge(number: &str) -> String {
    middle(number, 0, 4, 4)
}

/// Any other personal text: its first character and its length.
pub fn text(text: &str) -> String {
    match text.chars().count() {
        0 => String::new(),
        count => format!("{}… ({count} characters)", text.chars().take(1).collect::<String>()),
    }
}

/// Keeps `head` and `tail` characters when at least as many stay hidden; otherwise no more than two.
fn middle(text: &str, head: usize, tail: usize, stars: usize) -> String {
    let characters: Vec<char> = text.trim().chars().collect();
    let stars = "*".repeat(stars);
    if characters.len() < head + tail + 4 {
        return format!("{}{stars}", characters.iter().take(characters.len().min(4) / 2).collect::<String>());
    }
    let (head, rest) = characters.split_at(head);
    let tail = &rest[rest.len() - tail..];
    format!("{}{stars}{}", String::from_iter(head), String::from_iter(tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_data_can_be_recognised_and_not_misused() {
        assert_eq!(name("张三丰"), "张*");
        assert_eq!(name(""), "");
        assert_eq!(id_number("110101194912310016"), "110101********0016");
        assert_eq!(bank_card("6222020000000001234"), "****1234");
        assert_eq!(phone("13812345678"), "138****5678");
        assert_eq!(badge("E3086CED"), "****6CED");
        assert_eq!(badge("008,27885"), "****7885");
    }

    #[test]
    fn short_and_broken_values_do_not_slip_through() {
        assert_eq!(id_number("1101011949"), "11********");
        assert_eq!(badge("6CED"), "6C****");
        assert_eq!(phone("1"), "****");
        assert_eq!(bank_card(""), "****");
        assert_eq!(id_number("汉字汉字汉字汉字汉字汉字汉字汉字"), "汉字汉字汉字********汉字汉字");
        assert_eq!(text("北京市东城区"), "北… (6 characters)");
    }
}
