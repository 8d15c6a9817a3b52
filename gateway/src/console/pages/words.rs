//! The words of the pages, in Chinese and English.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_LANGUAGE;

use crate::ops::alarms::Kind;
use crate::ops::board::CourierState;
use crate::punch::{Direction, HeldReason, RejectedReason, UploadState, Verdict};

/// A language of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Zh,
    En,
}

impl Language {
    /// Both, in the order in which rendered pages are kept.
    pub const ALL: [Language; 2] = [Language::Zh, Language::En];

    /// The language named in the address, else the one the browser prefers, else Chinese.
    pub fn of(named: Option<&str>, headers: &HeaderMap) -> Language {
        let preferred = || headers.get(ACCEPT_LANGUAGE).and_then(|value| preferred(value.to_str().ok()?));
        named.and_then(Language::from_tag).or_else(preferred).unwrap_or(Language::Zh)
    }

    fn from_tag(tag: &str) -> Option<Language> {
        match tag.split('-').next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "zh" => Some(Language::Zh),
            "en" => Some(Language::En),
            _ => None,
        }
    }

    /// For addresses: `zh` or `en`.
    pub fn code(self) -> &'static str {
        match self {
            Language::Zh => "zh",
            Language::En => "en",
        }
    }

    /// For the `lang` attribute.
    pub fn tag(self) -> &'static str {
        match self {
            Language::Zh => "zh-CN",
            Language::En => "en",
        }
    }

    /// The other one, to switch to.
    pub fn other(self) -> Language {
        match self {
            Language::Zh => Language::En,
            Language::En => Language::Zh,
        }
    }

    /// Its name in itself.
    pub fn own_name(self) -> &'static str {
        self.pick("中文", "English")
    }

    /// The text in this language.
    pub fn pick(self, zh: &'static str, en: &'static str) -> &'static str {
        match self {
            Language::Zh => zh,
            Language::En => en,
        }
    }

    pub fn direction(self, direction: Direction) -> &'static str {
        match direction {
            Direction::In => self.pick("进", "in"),
            Direction::Out => self.pick("出", "out"),
            Direction::Unknown => self.pick("未知", "unknown"),
        }
    }

    /// The verdict with its reason, in words.
    pub fn verdict(self, verdict: Option<Verdict>) -> &'static str {
        match verdict {
            None => self.pick("核验中", "being verified"),
            Some(Verdict::Verified) => self.pick("有效", "verified"),
            Some(Verdict::Held(reason)) => self.held(reason),
            Some(Verdict::Rejected(reason)) => self.rejected(reason),
        }
    }

    fn held(self, reason: HeldReason) -> &'static str {
        match reason {
            HeldReason::UnknownWorker => self.pick("暂存：未登记人员", "held: not on the roster"),
            HeldReason::BeforeEntry => self.pick("暂存：早于进场日期", "held: before entry date"),
            HeldReason::DirectionUnknown => self.pick("暂存：进出方向不明", "held: direction unknown"),
            HeldReason::ClockSuspect => self.pick("暂存：设备时钟可疑", "held: terminal clock suspect"),
        }
    }

    fn rejected(self, reason: RejectedReason) -> &'static str {
        match reason {
            RejectedReason::Left => self.pick("不计：已退场", "rejected: has left the site"),
            RejectedReason::RefusedByTerminal => self.pick("不计：设备拒绝", "rejected: refused by the terminal"),
            RejectedReason::NotEnrolled => self.pick("不计：设备未录入", "rejected: not enrolled on the terminal"),
            RejectedReason::LowSimilarity => self.pick("不计：相似度过低", "rejected: poor match"),
            RejectedReason::Duplicate => self.pick("不计：重复打卡", "rejected: duplicate"),
        }
    }

    pub fn upload(self, state: UploadState) -> &'static str {
        match state {
            UploadState::Queued => self.pick("待上传", "queued"),
            UploadState::Waiting => self.pick("等待前置登记", "waiting"),
            UploadState::Sending => self.pick("上传中", "sending"),
            UploadState::Accepted => self.pick("已接收，待结果", "accepted"),
            UploadState::Confirmed => self.pick("已回执", "confirmed"),
            UploadState::Refused => self.pick("被退回", "refused"),
            UploadState::Unknown => self.pick("结果待查", "outcome unknown"),
            UploadState::Withdrawn => self.pick("不再上传", "withdrawn"),
        }
    }

    pub fn courier(self, state: Option<CourierState>) -> &'static str {
        match state {
            None => self.pick("启动中", "starting"),
            Some(CourierState::Running) => self.pick("正常", "running"),
            Some(CourierState::Unreachable) => self.pick("连接不上", "unreachable"),
            Some(CourierState::Stopped) => self.pick("已停止，需处理", "stopped, needs repair"),
        }
    }

    pub fn alarm(self, kind: Kind) -> &'static str {
        match kind {
            Kind::StoreFailing => self.pick("存储故障", "Store failing"),
            Kind::StoreFull => self.pick("存储已满", "Store full"),
            Kind::RetentionOver => self.pick("保存期已过", "Retention is over"),
            Kind::StoreShort => self.pick("存储空间不足", "Space runs short"),
            Kind::StoreDamaged => self.pick("存储有损坏", "Store damaged"),
            Kind::LineDown => self.pick("串口断开", "Line down"),
            Kind::LineUnkeyed => self.pick("串口未加密钥", "Line without keys"),
            Kind::ReaderSilent => self.pick("读卡器无应答", "Reader silent"),
            Kind::ReaderForged => self.pick("读卡器数据疑被伪造", "Forged reader frames"),
            Kind::ReaderUpdate => self.pick("读卡器程序未更新", "Reader not updated"),
            Kind::ReaderTamper => self.pick("读卡器被拆动", "Reader tampered with"),
            Kind::ReaderHung => self.pick("读卡器死机重启", "Reader hung"),
            Kind::PunchesLost => self.pick("打卡记录丢失", "Punches lost"),
            Kind::BrokerDown => self.pick("消息服务断开", "Broker down"),
            Kind::TerminalOffline => self.pick("设备离线", "Terminal offline"),
            Kind::TerminalClock => self.pick("设备时钟偏差", "Terminal clock off"),
            Kind::TerminalCloned => self.pick("设备序列号重复", "Terminal cloned"),
            Kind::TerminalPending => self.pick("新设备待批准", "Terminal pending"),
            Kind::LoginRefused => self.pick("设备登录被拒", "Login refused"),
            Kind::RecordUnreadable => self.pick("记录无法识别", "Record unreadable"),
            Kind::PlatformDown => self.pick("平台连接不上", "Platform down"),
            Kind::PlatformStopped => self.pick("平台上传已停止", "Platform stopped"),
            Kind::PlatformRefuses => self.pick("平台退回记录", "Platform refuses"),
            Kind::PlatformUnclear => self.pick("平台查不出结果", "Platform unclear"),
            Kind::ClockUntrusted => self.pick("网关时钟不可信", "Clock untrusted"),
        }
    }
}

/// The first of our languages by the browser's weights (RFC 9110 section 12.5.4).
fn preferred(accept: &str) -> Option<Language> {
    let mut best: Option<(f32, Language)> = None;
    for entry in accept.split(',') {
        let (tag, weight) = entry.split_once(";q=").unwrap_or((entry, "1"));
        let Some(language) = Language::from_tag(tag.trim()) else { continue };
        let weight: f32 = weight.trim().parse().unwrap_or(0.0);
        if weight > 0.0 && best.is_none_or(|(so_far, _)| weight > so_far) {
            best = Some((weight, language));
        }
    }
    best.map(|(_, language)| language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_wins_over_the_browser_and_chinese_is_the_rest() {
        let of = |named, accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, accept.parse().unwrap());
            Language::of(named, &headers)
        };
        assert_eq!(of(None, "en-GB,en;q=0.9,zh;q=0.8"), Language::En);
        assert_eq!(of(None, "fr, en;q=0.3, zh-CN;q=0.7"), Language::Zh);
        assert_eq!(of(Some("zh"), "en"), Language::Zh);
        assert_eq!(of(Some("xx"), "en"), Language::En);
        assert_eq!(of(None, "fr, en;q=0"), Language::Zh);
        assert_eq!(Language::of(None, &HeaderMap::new()), Language::Zh);
    }
}
