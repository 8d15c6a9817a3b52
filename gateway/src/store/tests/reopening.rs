//! What is acknowledged is there after every kind of stop.

use super::samples::{punch, verified};
use super::{append, last_seq, national, open};
use crate::punch::*;

#[tokio::test]
async fn facts_and_view_are_there_again_after_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..300 {
        append(&store, vec![Fact::Punch(punch(n)), verified(punch(n).id)]).await;
    }
    let last = last_seq(&store);
    store.close().await;

    let store = open(dir.path());
    assert_eq!(last_seq(&store), last);
    let (totals, outbox, page) = store
        .read(|view| {
            (view.totals(), view.outbox(&national(), Seq(0), 1000), view.punches(&Default::default(), None, 1000))
        })
        .await;
    assert_eq!((totals.punches, totals.verified, totals.unjudged), (300, 300, 0));
    assert_eq!(outbox.len(), 300);
    assert_eq!(page.items.len(), 300);
    assert!(page.items.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    store.close().await;
    assert!(crate::store::ledger::check::verify(&dir.path().join("ledger")).unwrap().is_sound());
}
