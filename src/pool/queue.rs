//! The tasks that wait for a worker, in the order in which they are taken: by priority, and within one as they came.
//!
//! Nearly all have priority 0. They stand in a line of their own; the lines of the others are made when the first of
//! them comes, and are looked at only while there is one.
//!
//! Data only. Not here: who comes for them (`floor.rs`), tasks that wait for a moment (`later.rs`). The rule: a task
//! that comes back to the front goes to the front of its own line.

use std::collections::{BTreeMap, VecDeque};

/// A task in the queue.
pub(crate) trait Queued: Sized {
    /// The same for one more worker. Then it stays where it is, until there is none for the next.
    fn another(&self) -> Option<Self> {
        None
    }

    /// Those with a higher one are taken first.
    fn priority(&self) -> i16 {
        0
    }

    /// Has it ended while it was waiting?
    fn is_ended(&self) -> bool {
        false
    }

    /// Is it the call of that cell, which can be run by whoever waits for it?
    fn stands_for(&self, _cell: *const ()) -> bool {
        false
    }
}

pub(super) struct Queue<I> {
    common: VecDeque<I>,
    /// Only while there are some: so one look at it is all that it costs.
    others: Option<Box<Others<I>>>,
}

/// The lines of all other priorities, none of them empty.
struct Others<I> {
    lines: BTreeMap<i16, VecDeque<I>>,
    count: usize,
}

/// So many tasks of each line are the last.
const LAST: usize = 16;

impl<I> Queue<I> {
    pub(super) fn new() -> Self {
        Queue { common: VecDeque::new(), others: None }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        let others = self.others.as_ref().map_or(0, |others| others.count);
        self.common.len() + others
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.common.is_empty() && self.others.is_none()
    }

    /// Are there others than the common ones?
    #[inline]
    pub(super) fn has_others(&self) -> bool {
        self.others.is_some()
    }

    /// Is there one that goes before all the common ones?
    pub(super) fn is_urgent(&self) -> bool {
        self.others.as_ref().is_some_and(|others| others.highest() > Some(0))
    }

    /// The next task.
    #[inline]
    pub(super) fn front(&self) -> Option<&I> {
        if self.has_others() { self.front_of_all() } else { self.common.front() }
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<I> {
        if self.has_others() { self.pop_front_of_all() } else { self.common.pop_front() }
    }

    /// Does one of the others come before the common ones?
    fn others_first(&self) -> bool {
        self.is_urgent() || self.common.is_empty()
    }

    #[cold]
    #[inline(never)]
    fn front_of_all(&self) -> Option<&I> {
        match &self.others {
            Some(others) if self.others_first() => others.front(),
            _ => self.common.front(),
        }
    }

    #[cold]
    #[inline(never)]
    fn pop_front_of_all(&mut self) -> Option<I> {
        if !self.others_first() {
            return self.common.pop_front();
        }
        let highest = self.others.as_ref()?.highest()?;
        self.take(highest, VecDeque::pop_front)
    }

    /// Takes one out of that line.
    fn take(&mut self, priority: i16, out: impl FnOnce(&mut VecDeque<I>) -> Option<I>) -> Option<I> {
        let others = self.others.as_mut()?;
        let line = others.lines.get_mut(&priority)?;
        let item = out(line)?;
        if line.is_empty() {
            others.lines.remove(&priority);
        }
        others.count -= 1;
        if others.count == 0 {
            self.others = None;
        }
        Some(item)
    }

    /// Takes out the next ones, as long as they fit: of the common ones, and none while another comes first.
    pub(super) fn take_common(&mut self, most: usize, mut fits: impl FnMut(&I) -> bool) -> Vec<I> {
        if self.is_urgent() {
            return Vec::new();
        }
        let count = self.common.iter().take(most).take_while(|item| fits(item)).count();
        self.common.drain(..count).collect()
    }

    /// Takes out the task that `is` the one, if that is among the last of a line.
    pub(super) fn take_back(&mut self, is: impl Fn(&I) -> bool) -> Option<I> {
        let find = |line: &VecDeque<I>| {
            let count = line.len();
            (count.saturating_sub(LAST)..count).rev().find(|at| is(&line[*at]))
        };
        if let Some(at) = find(&self.common) {
            return self.common.remove(at);
        }
        let others = self.others.as_ref()?;
        let (priority, at) =
            others.lines.iter().find_map(|(priority, line)| Some((*priority, find(line)?)))?;
        self.take(priority, |line| line.remove(at))
    }

    /// All of them, in whatever order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &I> {
        let others = self.others.iter().flat_map(|others| others.lines.values().flatten());
        self.common.iter().chain(others)
    }

    /// Takes out all of them, the next one first.
    pub(super) fn drain(&mut self) -> Vec<I> {
        let common = std::mem::take(&mut self.common);
        let Some(others) = self.others.take() else { return Vec::from(common) };
        let mut lines = others.lines;
        let before = lines.split_off(&0);
        let highest_first = |lines: BTreeMap<i16, VecDeque<I>>| lines.into_values().rev().flatten();
        highest_first(before).chain(common).chain(highest_first(lines)).collect()
    }
}

impl<I: Queued> Queue<I> {
    #[inline]
    pub(super) fn push_back(&mut self, item: I) {
        match item.priority() {
            0 => self.common.push_back(item),
            priority => self.add(priority, |line| line.push_back(item)),
        }
    }

    #[inline]
    pub(super) fn push_front(&mut self, item: I) {
        match item.priority() {
            0 => self.common.push_front(item),
            priority => self.add(priority, |line| line.push_front(item)),
        }
    }

    #[cold]
    #[inline(never)]
    fn add(&mut self, priority: i16, put: impl FnOnce(&mut VecDeque<I>)) {
        let others = self.others.get_or_insert_with(|| Box::new(Others { lines: BTreeMap::new(), count: 0 }));
        put(others.lines.entry(priority).or_default());
        others.count += 1;
    }
}

impl<I> Others<I> {
    fn highest(&self) -> Option<i16> {
        self.lines.last_key_value().map(|(highest, _)| *highest)
    }

    fn front(&self) -> Option<&I> {
        self.lines.last_key_value().and_then(|(_, line)| line.front())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A priority and a number.
    type Numbered = (i16, usize);

    impl Queued for Numbered {
        fn priority(&self) -> i16 {
            self.0
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(i16),
        /// Takes the next one, and gives it back.
        GiveBack,
        Pop,
        TakeCommon(usize),
        /// That one of the last which has come so long ago.
        TakeBack(usize),
        Drain,
    }

    fn step() -> impl Strategy<Value = Step> {
        let priority = prop_oneof![3 => Just(0_i16), 2 => -2..=2_i16, 1 => any::<i16>()];
        prop_oneof![
            6 => priority.prop_map(Step::Push),
            1 => Just(Step::GiveBack),
            4 => Just(Step::Pop),
            1 => (0..4_usize).prop_map(Step::TakeCommon),
            1 => (0..LAST).prop_map(Step::TakeBack),
            1 => Just(Step::Drain),
        ]
    }

    /// Where the next one is, in a list in which they stand as they came.
    fn next_of(model: &[Numbered]) -> Option<usize> {
        let highest = model.iter().map(|(priority, _)| *priority).max()?;
        model.iter().position(|(priority, _)| *priority == highest)
    }

    proptest! {
        #[test]
        fn the_highest_comes_first_and_of_equals_the_first_to_come(steps in prop::collection::vec(step(), 0..80)) {
            let (mut queue, mut model, mut came) = (Queue::new(), Vec::<Numbered>::new(), 0);
            for step in steps {
                match step {
                    Step::Push(priority) => {
                        came += 1;
                        queue.push_back((priority, came));
                        model.push((priority, came));
                    }
                    Step::GiveBack => {
                        if let Some(item) = queue.pop_front() {
                            queue.push_front(item);
                        }
                    }
                    Step::Pop => {
                        let expected = next_of(&model).map(|at| model.remove(at));
                        prop_assert_eq!(queue.front().copied(), expected);
                        prop_assert_eq!(queue.pop_front(), expected);
                    }
                    Step::TakeCommon(most) => {
                        let mut expected = Vec::new();
                        while expected.len() < most
                            && let Some(at) = next_of(&model)
                            && model[at].0 == 0
                        {
                            expected.push(model.remove(at));
                        }
                        prop_assert_eq!(queue.take_common(most, |_| true), expected);
                    }
                    Step::TakeBack(ago) => {
                        let wanted = model.len().checked_sub(ago + 1).map(|at| model.remove(at));
                        let found = queue.take_back(|item| wanted.is_some_and(|wanted| wanted == *item));
                        prop_assert_eq!(found, wanted);
                    }
                    Step::Drain => {
                        let mut expected = Vec::new();
                        while let Some(at) = next_of(&model) {
                            expected.push(model.remove(at));
                        }
                        prop_assert_eq!(queue.drain(), expected);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                prop_assert_eq!(queue.is_urgent(), model.iter().any(|(priority, _)| *priority > 0));
            }
        }
    }
}
