//! The overview in a real browser: what a registrar sees on a desk and a guard on a phone.
//!
//! Needs Debian's chromium and chromedriver and is skipped, with a line that says so, where they are missing.

#![expect(clippy::unwrap_used, reason = "a story fails where it stands; helpers of a test crate do not count as tests")]

mod driver;
mod site;

use driver::{Browser, Screen, with_browser};
use gateway::punch::Verdict;
use serde_json::json;
use site::{Site, TOKEN};

#[tokio::test]
async fn a_new_punch_appears_on_the_desk_without_a_reload() {
    with_browser(Screen::Desk, |browser| a_new_punch_appears(browser, Screen::Desk)).await;
}

#[tokio::test]
async fn a_new_punch_appears_on_a_phone_without_a_reload() {
    with_browser(Screen::Phone, |browser| a_new_punch_appears(browser, Screen::Phone)).await;
}

async fn a_new_punch_appears(browser: Browser, screen: Screen) {
    let mut site = Site::open().await;
    let languages = [("zh", "zh-CN", "当前在场", "W0002", 2), ("en", "en", "On site now", "W0003", 3)];
    for (code, tag, heading, newcomer, on_site) in languages {
        browser.client.goto(&site.url(&format!("/?lang={code}"))).await.unwrap();
        assert_eq!(browser.evaluate("return document.documentElement.lang").await, tag);
        assert_eq!(browser.evaluate("return document.querySelector('#on-site h2').textContent").await, heading);
        assert_eq!(browser.evaluate("return innerWidth").await, screen.width());
        no_sideways_scrolling(&browser).await;
        browser.until("return document.querySelector('#link').className === 'live'").await;
        browser.evaluate("window.loadedOnce = true").await;

        let id = site.punch(newcomer, Verdict::Verified).await;
        browser.until(&format!("return document.querySelector('[data-id=\"{id}\"].fresh') !== null")).await;
        browser.until(&format!("return document.querySelector('#head-count').textContent === '{on_site}'")).await;
        assert_eq!(browser.evaluate("return window.loadedOnce").await, true, "the page was reloaded");
        no_sideways_scrolling(&browser).await;
        browser.picture(&format!("overview-{code}-{}", screen.width())).await;
    }
    let whole = browser.client.source().await.unwrap();
    assert!(whole.contains("李*") && !whole.contains("秀英"), "names are masked");
    let unnamed = "return [...document.querySelectorAll('th')].filter(th => th.scope !== 'col').length";
    assert_eq!(browser.evaluate(unnamed).await, 0);
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    site.close().await;
}

async fn no_sideways_scrolling(browser: &Browser) {
    let wide = "return [document.documentElement.scrollWidth, innerWidth]";
    let widths = browser.evaluate(wide).await;
    assert_eq!(widths[0], widths[1], "the page is wider than the screen");
}

#[tokio::test]
async fn a_page_that_lost_its_gateway_catches_up_when_it_is_back() {
    with_browser(Screen::Desk, |browser| async move {
        let mut site = Site::open().await;
        browser.client.goto(&site.url("/?lang=en")).await.unwrap();
        browser.until("return document.querySelector('#link').className === 'live'").await;
        browser.evaluate("window.loadedOnce = true").await;
        site.stop().await;
        browser.until("return document.querySelector('#link').className === 'lost'").await;
        let id = site.punch("W0002", Verdict::Verified).await;
        site.start().await;
        browser.until(&format!("return document.querySelector('[data-id=\"{id}\"]') !== null")).await;
        browser.until("return document.querySelector('#link').className === 'live'").await;
        assert_eq!(browser.evaluate("return window.loadedOnce").await, true, "the page was reloaded");
        site.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_page_does_not_grow_however_many_punches_come() {
    with_browser(Screen::Desk, |browser| async move {
        let mut site = Site::open().await;
        browser.client.goto(&site.url("/?lang=en")).await.unwrap();
        let mut last = None;
        for _ in 0..300 {
            last = Some(site.punch("W0002", Verdict::Verified).await);
        }
        let last = last.unwrap();
        browser.until(&format!("return document.querySelector('[data-id=\"{last}\"]') !== null")).await;
        assert_eq!(browser.evaluate("return document.querySelectorAll('[data-id]').length").await, 40);
        site.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_registrar_logs_in_with_the_token_and_approves_a_terminal() {
    with_browser(Screen::Desk, |browser| async move {
        let site = Site::open().await;
        browser.client.goto(&site.url("/?lang=en")).await.unwrap();
        assert_eq!(browser.evaluate("return document.querySelectorAll('#terminals .button').length").await, 0);
        browser.click("a[href^='/login']").await;
        browser.fill("#token", "a wrong token").await;
        browser.click("main button").await;
        browser.until("return document.querySelector('[role=alert]')?.textContent === 'The token is wrong.'").await;
        browser.picture("login-en-1280").await;
        // The refusal itself is a 401, which the browser's console mentions.
        assert!(browser.complaints().await.iter().all(|line| line.contains("/login") && line.contains("401")));

        browser.fill("#token", TOKEN).await;
        browser.click("main button").await;
        browser.until("return document.querySelector('#terminals .button') !== null").await;
        browser.click("#terminals .button").await;
        browser.fill("#id", "east-in").await;
        browser.picture("approve-en-1280").await;
        browser.click("main button").await;
        browser.until("return document.querySelector('main')?.textContent.includes('has not been told yet')").await;
        browser.click("main a").await;
        let approved = "return document.querySelector('#terminals')?.textContent.includes('east-in')";
        browser.until(approved).await;
        assert_eq!(browser.evaluate("return document.querySelectorAll('#terminals .button').length").await, 0);

        browser.click("nav button").await;
        browser.until("return document.querySelector(\"a[href^='/login']\") !== null").await;
        assert_eq!(browser.complaints().await, Vec::<String>::new());
        let refused = "const answer = await fetch('/api/v1/alarms'); return answer.status";
        assert_eq!(browser.evaluate(refused).await, json!(401));
        site.close().await;
    })
    .await;
}
