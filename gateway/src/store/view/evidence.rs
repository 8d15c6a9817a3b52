//! Questions about what can be proven.

use super::keys;
use super::query::{Answer, View, decode, get};
use super::rows::{LaterFact, PunchEntry};
use crate::punch::*;
use crate::store::ledger::proof::{self, Proof, ProveError};
use crate::store::ledger::reader::PlacedFrame;

impl View {
    /// The head of the last day that was closed.
    pub fn last_day_head(&self) -> Option<DayHead> {
        self.settled(|tree| {
            let last = tree.scan_prefix(keys::day_heads()).next_back();
            last.map(|entry| self.day_head(&entry?.1)).transpose().map(Option::flatten)
        })
    }

    /// A punch and its verdicts, each with its way to the signed head of its day. Reads the day's facts.
    pub fn prove(&self, id: PunchId) -> Result<Proof, ProveError> {
        let (frames, heads) = self.glance(|tree| self.evidence(tree, id));
        let (limit, _) = self.shared.durable();
        proof::prove(&self.shared.paths.ledger, &self.shared.keyring, &frames, &heads, Some(limit))
    }

    /// The frames of a punch and its verdicts, and the heads over them.
    fn evidence(&self, tree: &sled::Tree, id: PunchId) -> Answer<(Vec<PlacedFrame>, Vec<DayHead>)> {
        let Some(seq) = get::<Seq>(tree, &keys::punch(id))? else { return Ok(Default::default()) };
        let Some(entry) = get::<PunchEntry>(tree, &keys::row(seq))? else { return Ok(Default::default()) };
        let mut places = vec![entry.at];
        for later in tree.scan_prefix(keys::later_facts(seq)) {
            places.push(decode::<LaterFact>(&later?.1)?.at);
        }
        let (mut frames, mut heads): (Vec<PlacedFrame>, Vec<DayHead>) = (Vec::new(), Vec::new());
        for at in places {
            let Some((frame, Fact::Punch(_) | Fact::Judgement(_))) = self.fact(at)? else { continue };
            let over = tree.range(keys::day_head(Seq(frame.header.seq))..keys::after(&keys::day_heads())).next();
            heads.extend(over.map(|entry| self.day_head(&entry?.1)).transpose()?.flatten());
            frames.push(frame);
        }
        Ok((frames, heads))
    }

    fn day_head(&self, row: &[u8]) -> Answer<Option<DayHead>> {
        match self.fact(decode::<LaterFact>(row)?.at)? {
            Some((_, Fact::DayHead(head))) => Ok(Some(head)),
            // Damaged since.
            Some(_) | None => Ok(None),
        }
    }
}
