//! Questions about what can be proven.

use super::keys;
use super::merged::Merged;
use super::query::{Answer, View, decode};
use super::rows::Noted;
use crate::punch::*;
use crate::store::ledger::proof::{self, Proof, ProveError};
use crate::store::ledger::reader::PlacedFrame;

impl View {
    /// The head of the last day that was closed.
    pub fn last_day_head(&self) -> Option<DayHead> {
        self.settled(|Merged { live, .. }| {
            let last = live.range_back(keys::day_heads(), &keys::after(&keys::day_heads())).next();
            last.map(|entry| self.day_head(&entry?.1)).transpose().map(Option::flatten)
        })
    }

    /// A punch and its verdicts, each with its way to the signed head of its day. Reads the day's facts.
    pub fn prove(&self, id: PunchId) -> Result<Proof, ProveError> {
        let (frames, heads) = self.glance(|view| self.evidence(view, id));
        let (limit, _) = self.shared.durable();
        proof::prove(&self.shared.paths.ledger, &self.shared.keyring, &frames, &heads, Some(limit))
    }

    /// The frames of a punch and its verdicts, and the heads over them.
    fn evidence(&self, view: &Merged, id: PunchId) -> Answer<(Vec<PlacedFrame>, Vec<DayHead>)> {
        let Some(entry) = view.entry_of(id)? else { return Ok(Default::default()) };
        let told = view.facts_of(&entry)?;
        let (mut frames, mut heads): (Vec<PlacedFrame>, Vec<DayHead>) = (Vec::new(), Vec::new());
        for at in std::iter::once(entry.at).chain(told.iter().map(|noted| noted.at)) {
            let Some((frame, Fact::Punch(_) | Fact::Judgement(_))) = self.fact(at)? else { continue };
            let over = view.live.range(keys::day_head(Seq(frame.header.seq)), &keys::after(&keys::day_heads())).next();
            heads.extend(over.map(|entry| self.day_head(&entry?.1)).transpose()?.flatten());
            frames.push(frame);
        }
        Ok((frames, heads))
    }

    fn day_head(&self, row: &[u8]) -> Answer<Option<DayHead>> {
        match self.fact(decode::<Noted>(row)?.at)? {
            Some((_, Fact::DayHead(head))) => Ok(Some(head)),
            // Damaged since.
            Some(_) | None => Ok(None),
        }
    }
}
