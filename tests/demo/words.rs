//! What the demo prints. Nobody listening is no reason to stop: a closed output is ignored.

use std::io::Write;

use harness::gateway::Vitals;

use crate::place::Place;
use crate::site::{Site, Standing};

pub fn starting() {
    say("正在启动（首次需要编译网关）… · Starting (the first time builds the gateway) …");
}

/// Where to look and how to stop.
pub fn welcome(place: &Place, site: &Site) {
    let (port, token, dir) = (place.console_port, site.token_file(), place.dir());
    let (token, dir) = (token.display(), dir.display());
    say(&format!(
        "
安薪网关演示 · Anxin Gateway demo
  真实网关，模拟的南门（3 台串口读卡器）和北门（4 台 MQTT 人脸终端），参考平台按每秒一次的规则收件
  The real gateway; simulated south gate (3 badge readers on a serial line) and north gate (4 face terminals over MQTT);
  a reference platform that holds it to one call per second

  总览 Overview   http://127.0.0.1:{port}/          (English: http://127.0.0.1:{port}/?lang=en)
  登录 Sign in    http://127.0.0.1:{port}/login     令牌 token: {token}
  请看 Look for   打卡 → 有效 → 已回执；未登记卡片暂存；断线与补传不丢不重
                  punches become verified, then confirmed; unknown badges are held; cut links lose and double nothing
  数据 Data       {dir}
                  下次接着运行，--fresh 重新开始 · the next start goes on; --fresh starts over
  停止 Stop       Ctrl-C
"
    ));
}

/// One line on how things stand.
pub fn report(standing: &Standing) {
    let Standing { verified, held, rejected, receipts, open, violations, gateway, demo } = standing;
    let mib = |vitals: &Option<Vitals>| vitals.map_or(0, |vitals| vitals.rss_kib / 1024);
    say(&format!(
        "有效 verified {verified} · 已回执 confirmed {receipts} · 待回执 open {open} · 暂存 held {held} · 不计 rejected {rejected} \
         · 违规 rules broken {violations} · 内存 memory: 网关 gateway {} MiB, 演示 demo {} MiB",
        mib(gateway),
        mib(demo),
    ));
}

pub fn stopping() {
    say("\n正在停止… · Stopping …");
}

pub fn stopped(place: &Place) {
    say(&format!("已停止，数据在 {0} · Stopped; the data is in {0}", place.dir().display()));
}

pub fn complain(trouble: &str) {
    let _ = writeln!(std::io::stderr(), "{trouble}");
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
