use super::*;
use crate::terminals::mqtt::fixtures::{RECORDS, Site, record};

/// The broker counts from 1 again: the old packet ids are those of other publications now.
#[tokio::test]
async fn after_a_reconnection_no_packet_id_of_the_old_connection_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path()).await;
    let (chores_in, mut chores) = mpsc::channel(64);
    let (outbound, _commands) = mpsc::channel(64);
    let lanes = Lanes::new(site.desk, site.ops, "mqtt://127.0.0.1:1884".to_owned(), chores_in, outbound);
    let (events_in, events) = mpsc::channel(64);
    let up = || Event::Up { session_present: false };
    // All at once: when the link breaks, one record is at work and one waits behind it.
    let story = [up(), published(1, 1), published(2, 2), Event::Down("gone".to_owned()), up(), published(1, 3)];
    for event in story {
        assert!(events_in.try_send(event).is_ok());
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { lanes.run(events, &CancellationToken::new()).await });
    let mut acknowledged = Vec::new();
    while let Some(chore) = chores.recv().await {
        let Chore::Ack(publish) = chore else { continue };
        let last = publish.payload == record(3);
        acknowledged.push(publish);
        if last {
            break;
        }
    }
    drop(events_in);
    while let Some(chore) = chores.recv().await {
        assert!(!matches!(chore, Chore::Ack(_)));
    }
    let payloads: Vec<String> =
        acknowledged.iter().map(|publish| String::from_utf8_lossy(&publish.payload).into_owned()).collect();
    assert_eq!(payloads, [record(3)]);
    assert_eq!(site.store.counters().facts, 2, "what waited is stored all the same, and collapses when it comes again");
}

fn published(packet_id: u16, number: u64) -> Event {
    let mut publish = Publish::new(RECORDS, QoS::AtLeastOnce, record(number));
    publish.pkid = packet_id;
    Event::Publication(publish)
}
