//! A platform's courier with the real store and the reference platform, over HTTP.

mod site;

use std::time::Duration;

use gateway::ops::alarms::Kind;
use gateway::ops::board::CourierState;
use gateway::punch::{Fact, Step, Subject, UploadState, UploadStep, Worker};
use harness::faults::Faults;
use harness::platform::{Misbehaviour, Options, ReferencePlatform};

use self::site::{LABOUR, Site, id_number, name, worker};

#[tokio::test(flavor = "multi_thread")]
async fn registrations_and_punches_reach_the_platforms_book() {
    let mut site = Site::start().await;
    site.import(1..=12).await;
    for _ in 0..10 {
        for number in 1..=12 {
            site.punch(number).await;
        }
    }
    site.drained(Duration::from_secs(40)).await;
    let book = site.platform.book();
    assert_eq!(book.violations, Vec::<String>::new());
    assert_eq!((book.attendance.len(), book.copies()), (120, 0));
    assert_eq!((book.workers.len(), book.moves.len(), book.teams.len()), (12, 12, 6));
    assert_eq!(book.employers, [LABOUR]);
    assert!(book.attendance.iter().all(|punch| punch.attend_type == "001"));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_fails_a_third_of_its_answers_gets_every_punch_once_from_a_courier_that_is_killed() {
    let mut faults = Faults::from_env("upload to a bad platform", 11);
    let mut site = Site::start().await;
    site.import(1..=10).await;
    site.platform.set_faults(Misbehaviour::third(faults.fork("platform")));
    let mut punches = Vec::new();
    for round in 0..12 {
        for number in 1..=10 {
            punches.push(site.punch(number).await);
        }
        tokio::time::sleep(Duration::from_millis(faults.pick(50..500))).await;
        if round % 2 == 1 {
            site.kill_and_restart().await;
        }
    }
    site.drained(Duration::from_secs(150)).await;
    let book = site.platform.book();
    let mut refused = 0;
    for punch in &punches {
        refused += usize::from(site.state(Subject::Punch(*punch)).await == Some(UploadState::Refused));
    }
    assert_eq!(book.copies(), 0, "a punch was sent twice");
    assert_eq!(book.attendance.len() + refused, punches.len());
    assert_eq!(book.violations, Vec::<String>::new());
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_goes_down_is_an_alarm_until_it_comes_back() {
    let mut site = Site::start().await;
    site.import(1..=1).await;
    site.punch(1).await;
    site.drained(Duration::from_secs(20)).await;
    site.platform.go_down();
    site.punch(1).await;
    site.until("an alarm", |site| site.has_alarm(Kind::PlatformDown)).await;
    assert_eq!(site.courier_state(), CourierState::Unreachable);
    site.platform.come_back();
    site.drained(Duration::from_secs(30)).await;
    site.until("the end of the alarm", |site| !site.has_alarm(Kind::PlatformDown)).await;
    assert_eq!(site.platform.book().copies(), 0);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_key_stops_the_courier_until_somebody_orders_a_retry() {
    let mut site = Site::start().await;
    site.platform.reject_key(true);
    site.import(1..=2).await;
    site.punch(1).await;
    site.until("an alarm", |site| site.has_alarm(Kind::PlatformStopped)).await;
    assert_eq!(site.courier_state(), CourierState::Stopped);
    let before = site.platform.book().requests;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(site.platform.book().requests, before, "a stopped courier went on");

    site.platform.reject_key(false);
    let order = UploadStep {
        platform: name(),
        job: site.store.read(|view| view.last_job(&name())).await,
        method: "retry".to_owned(),
        at: site.clock.now(),
        subjects: vec![Subject::Worker("W0001".into())],
        step: Step::Requeued { reason: "ordered at the console".to_owned() },
    };
    site.store.append(vec![Fact::Upload(order)]).await.unwrap();
    site.drained(Duration::from_secs(20)).await;
    assert!(!site.has_alarm(Kind::PlatformStopped));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_item_does_not_take_its_batch_with_it_and_a_retry_repairs_it() {
    let mut site = Site::start().await;
    site.import(1..=6).await;
    site.punch(1).await;
    site.drained(Duration::from_secs(20)).await;
    site.until("six entries", |site| site.platform.book().moves.len() == 6).await;
    site.platform.refuse(&id_number(2), "[{list}][{i}][date]值无效!");
    let bad = site.punch(2).await;
    for number in [4, 6, 1, 3, 5] {
        site.punch(number).await;
    }
    site.drained(Duration::from_secs(20)).await;
    assert_eq!(site.state(Subject::Punch(bad)).await, Some(UploadState::Refused));
    assert_eq!(site.platform.book().attendance.len(), 6);
    site.until("an alarm", |site| site.has_alarm(Kind::PlatformRefuses)).await;

    site.platform.refuse_nobody();
    let order = UploadStep {
        platform: name(),
        job: site.store.read(|view| view.last_job(&name())).await,
        method: "retry".to_owned(),
        at: site.clock.now(),
        subjects: vec![Subject::Punch(bad)],
        step: Step::Requeued { reason: "ordered at the console".to_owned() },
    };
    site.store.append(vec![Fact::Upload(order)]).await.unwrap();
    site.until("all seven", |site| site.platform.book().attendance.len() == 7).await;
    site.drained(Duration::from_secs(20)).await;
    site.until("the end of the alarm", |site| !site.has_alarm(Kind::PlatformRefuses)).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_usable_photo_waits_and_the_others_do_not() {
    let mut site = Site::start().await;
    site.import(1..=1).await;
    let no_picture = site.store.put_photo(b"not a picture".as_slice().into()).await.unwrap();
    site.store.append(vec![Fact::Worker(Worker { photo: Some(no_picture), ..worker(7) })]).await.unwrap();
    site.punch(1).await;
    let held = site.punch(7).await;
    site.until("the other one's punch", |site| site.platform.book().attendance.len() == 1).await;
    while site.open().await > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(site.state(Subject::Punch(held)).await, Some(UploadState::Waiting));
    let row = site.store.read(|view| view.upload(&name(), &Subject::Worker("W0007".into()))).await.unwrap();
    assert_eq!(row.state, UploadState::Waiting);
    assert!(row.reason.unwrap().contains("photo"));

    site.import(7..=7).await;
    site.drained(Duration::from_secs(20)).await;
    assert_eq!(site.state(Subject::Punch(held)).await, Some(UploadState::Confirmed));
    assert_eq!(site.platform.book().violations, Vec::<String>::new());
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_punch_whose_photo_cannot_be_read_now_waits_for_it_and_the_others_do_not() {
    let mut site = Site::start().await;
    site.import(1..=2).await;
    site.punch(1).await;
    site.punch(2).await;
    site.drained(Duration::from_secs(20)).await;
    // A directory in its place cannot be read as a file, whoever asks.
    let photo = site.photo().await;
    let (file, aside) = (site.photo_file(photo), site.photo_file(photo).with_extension("aside"));
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    let held = site.punch_with(1, Some(photo)).await;
    site.punch(2).await;
    site.until("the other one's punch", |site| site.platform.book().attendance.len() == 3).await;
    site.reaches(Subject::Punch(held), UploadState::Waiting).await;
    let row = site.store.read(move |view| view.upload(&name(), &Subject::Punch(held))).await.unwrap();
    assert!(row.reason.as_ref().is_some_and(|reason| reason.contains("photo")), "{row:?}");
    assert_eq!(site.courier_state(), CourierState::Running);

    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    site.drained(Duration::from_secs(20)).await;
    let with_images = site.platform.book().attendance.iter().filter(|punch| punch.has_image).count();
    assert_eq!((site.platform.book().attendance.len(), with_images), (4, 1));
    assert_eq!(site.platform.book().violations, Vec::<String>::new());
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_who_changes_teams_is_moved_on_the_platform_and_punches_there() {
    let mut site = Site::start().await;
    site.import(1..=3).await;
    site.punch(1).await;
    site.punch(3).await;
    site.drained(Duration::from_secs(20)).await;
    let photo = Some(site.photo().await);
    let moved = Worker { team: worker(3).team, photo, ..worker(1) };
    site.store.append(vec![Fact::Worker(moved)]).await.unwrap();
    let team_of = |site: &Site, number| {
        let workers = site.platform.book().workers.into_iter();
        workers.filter(|worker| worker.id_number == id_number(number)).map(|worker| worker.team_number).next()
    };
    assert!(team_of(&site, 1).is_some() && team_of(&site, 1) != team_of(&site, 3));
    site.until("the new team", |site| team_of(site, 1) == team_of(site, 3)).await;
    site.punch(1).await;
    site.drained(Duration::from_secs(20)).await;
    let book = site.platform.book();
    assert_eq!(book.attendance.last().map(|punch| punch.team_number), team_of(&site, 3));
    assert_eq!(book.violations, Vec::<String>::new());
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_request_is_refused_and_noted() {
    let platform = ReferencePlatform::start(Options::default()).await.unwrap();
    let forged =
        "method=Team.Add&version=1.0&appid=demo-app&format=json&timestamp=20260302180500&nonce=1&sign=00&data=%7B%7D";
    let answer = bare_post(&platform.endpoint(), forged).await;
    assert!(answer.contains("\"-2\""), "{answer}");
    assert_eq!(platform.book().violations.len(), 1);
    platform.stop().await;
}

/// A bare HTTP POST, so that the platform is also asked by somebody who is not the gateway.
async fn bare_post(endpoint: &str, body: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = endpoint.trim_start_matches("http://").split('/').next().unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /open.api HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
