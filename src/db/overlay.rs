//! What one write job has changed so far, over what the transaction holds.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Row, Table};

/// New values by key; none where the row is taken out.
pub(super) type Changes = BTreeMap<Box<[u8]>, Option<Box<[u8]>>>;

/// The changes of one job, table by table, in order of their keys.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    tables: BTreeMap<Table, Changes>,
}

impl Overlay {
    /// What this job made of `key`: nothing if it left it alone.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.tables.get(&table)?.get(key).map(Option::as_deref)
    }

    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.tables.entry(table).or_default().insert(key.into(), Some(value.into()));
    }

    pub(super) fn remove(&mut self, table: Table, key: &[u8]) {
        self.tables.entry(table).or_default().insert(key.into(), None);
    }

    /// Up to `limit` rows from `from` on: those of `base`, in order, with the changes over them.
    pub(super) fn merge<E>(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        base: impl Iterator<Item = Result<Row, E>>,
        limit: usize,
    ) -> Result<Vec<Row>, E> {
        let none = Changes::new();
        let changes = self.tables.get(&table).unwrap_or(&none);
        let mut changes = changes.range::<[u8], _>((from, Bound::Unbounded)).peekable();
        let mut base = base.peekable();
        let mut rows = Vec::new();
        while rows.len() < limit {
            let changed = changes.peek().map(|(key, _)| key.as_ref());
            let below = match base.peek() {
                // A row that is changed gives way to the change.
                Some(Ok((key, _))) => changed.is_none_or(|changed| key.as_slice() < changed),
                Some(Err(_)) => true,
                None => false,
            };
            if below {
                rows.extend(base.next().transpose()?);
                continue;
            }
            let Some((key, value)) = changes.next() else { break };
            if matches!(base.peek(), Some(Ok((below, _))) if below.as_slice() == key.as_ref()) {
                base.next();
            }
            if let Some(value) = value {
                rows.push((key.to_vec(), value.to_vec()));
            }
        }
        Ok(rows)
    }

    /// The changes of each table.
    pub(super) fn into_changes(self) -> impl Iterator<Item = (Table, Changes)> {
        self.tables.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const TABLE: Table = Table::new("t");

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn base(model: &Model, from: Bound<&[u8]>) -> Vec<Result<Row, Infallible>> {
        let range = (from.map(<[u8]>::to_vec), Bound::Unbounded);
        model.range(range).map(|(key, value)| Ok((key.clone(), value.clone()))).collect()
    }

    #[test]
    fn an_error_of_the_base_is_told() {
        let overlay = Overlay::default();
        let rows = [Ok((vec![1], vec![])), Err("disk")];
        let merged = overlay.merge(TABLE, Bound::Unbounded, rows.into_iter(), 9);
        assert_eq!(merged, Err("disk"));
    }

    proptest! {
        /// The merged rows are those of a map to which the changes were made.
        #[test]
        fn merged_rows_are_what_a_map_would_hold(
            held in proptest::collection::btree_map(0..40_u8, 0..9_u8, 0..30),
            changes in proptest::collection::vec((0..40_u8, proptest::option::of(0..9_u8)), 0..30),
            from in 0..41_u8, kind in 0..3_u8, limit in 0..50_usize,
        ) {
            let mut model: Model =
                held.into_iter().map(|(key, value)| (vec![key], vec![value])).collect();
            let from_key = [from];
            let from = match kind {
                0 => Bound::Included(&from_key[..]),
                1 => Bound::Excluded(&from_key[..]),
                _ => Bound::Unbounded,
            };
            let below = base(&model, from);
            let mut overlay = Overlay::default();
            for (key, value) in changes {
                match value {
                    Some(value) => {
                        overlay.put(TABLE, &[key], &[value]);
                        model.insert(vec![key], vec![value]);
                    }
                    None => {
                        overlay.remove(TABLE, &[key]);
                        model.remove(&vec![key]);
                    }
                }
            }
            let merged = overlay.merge(TABLE, from, below.into_iter(), limit).unwrap();
            let wanted: Vec<_> =
                base(&model, from).into_iter().take(limit).map(|Ok(row)| row).collect();
            prop_assert_eq!(merged, wanted);
        }
    }
}
