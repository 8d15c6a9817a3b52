//! National workType codes (全国建筑工人管理服务信息平台, 工种字典).

/// Code and Chinese name.
const TRADES: [(&str, &str); 39] = [
    ("010", "砌筑工"),
    ("020", "钢筋工"),
    ("030", "架子工"),
    ("040", "混凝土工"),
    ("050", "模板工"),
    ("060", "机械设备安装工"),
    ("070", "通风工"),
    ("080", "安装起重工"),
    ("090", "安装钳工"),
    ("100", "电气设备安装调试工"),
    ("110", "管道工"),
    ("120", "变电安装工"),
    ("130", "建筑电工"),
    ("140", "司泵工"),
    ("150", "挖掘铲运和桩工机械司机"),
    ("160", "桩机操作工"),
    ("170", "起重信号工"),
    ("180", "建筑起重机械安装拆卸工"),
    ("190", "装饰装修工"),
    ("200", "室内成套设施安装工"),
    ("210", "建筑门窗幕墙安装工"),
    ("220", "幕墙制作工"),
    ("230", "防水工"),
    ("240", "木工"),
    ("250", "石工"),
    ("270", "电焊工"),
    ("280", "爆破工"),
    ("290", "除尘工"),
    ("300", "测量放线工"),
    ("310", "线路架设工"),
    ("320", "古建筑传统石工"),
    ("330", "古建筑传统瓦工"),
    ("340", "古建筑传统彩画工"),
    ("350", "古建筑传统木工"),
    ("360", "古建筑传统油工"),
    ("380", "金属工"),
    ("390", "杂工"),
    ("900", "管理人员"),
    ("1000", "其它"),
];

/// The trade of everybody who works with the head; all others are workers.
pub const MANAGEMENT: &str = "900";

/// The code for a code or a Chinese name. Spreadsheets drop leading zeros: `10` is `010`.
pub fn code(text: &str) -> Option<&'static str> {
    let name = match text {
        "其他" => "其它",
        other => other,
    };
    let padded = format!("{name:0>3}");
    TRADES.iter().find(|(code, known)| *code == padded || *known == name).map(|(code, _)| *code)
}

/// The Chinese name of a code.
pub fn name(code: &str) -> Option<&'static str> {
    TRADES.iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
}

/// National workRole: 10 for management, 20 for workers.
pub fn work_role(code: &str) -> &'static str {
    match code {
        MANAGEMENT => "10",
        _ => "20",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trade_is_found_by_code_and_by_name() {
        for (known, chinese) in TRADES {
            assert_eq!(code(known), Some(known));
            assert_eq!(code(chinese), Some(known), "{chinese} is named once");
            assert_eq!(name(known), Some(chinese));
        }
        assert_eq!(code("20"), Some("020"));
        assert_eq!(code("其他"), Some("1000"));
    }

    #[test]
    fn what_is_no_national_trade_is_not_guessed() {
        for text in ["", "0", "260", "0020", "800", "钢筋", "1", "木"] {
            assert_eq!(code(text), None, "{text}");
        }
    }

    #[test]
    fn only_management_has_the_role_of_management() {
        assert_eq!(work_role("900"), "10");
        assert_eq!(work_role("010"), "20");
        assert_eq!(work_role("1000"), "20");
    }
}
