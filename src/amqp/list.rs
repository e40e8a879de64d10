//! The functions that an AMQP worker may call, by their names.
//!
//! Not here: who fills it (`worker.rs`), what is called by it (`bench.rs`). The rule: a name that is not on the list is never
//! called, nor is one whose types are others.

use std::collections::BTreeMap;

use super::message::{Ended, TaskHead, Way};
use crate::error::Error;
use crate::portable::{self, Each, Function, Named, Once, Portable};
use crate::wire::message::FunctionRef;

/// By name; and by whether an `Err` is the error of the call (the second of the two) or its value.
#[derive(Default)]
pub(super) struct List(BTreeMap<&'static str, [Option<Listed>; 2]>);

struct Listed {
    shape: u64,
    /// To be called once, and once for each entry. Or why it cannot be called at all: it is of a shared library.
    functions: Result<[FunctionRef; 2], String>,
}

impl List {
    pub(super) fn add<Fun: Function<Argument: Portable, Return: Portable>>(
        &mut self,
        function: Fun,
    ) -> Result<(), Error> {
        let Named { function: name, shape, fallible, .. } = Named::of::<Fun>(false);
        if name.contains("{{closure}}") {
            return Err(Error::invalid(
                format!("`{name}` was registered: all closures of one function have one name"),
                "write it as a function (`fn`), and call that",
            ));
        }
        let functions = portable::of(&Once(function))
            .and_then(|once| portable::of(&Each(function)).map(|each| [once, each]));
        let place = &mut self.0.entry(name).or_default()[usize::from(fallible)];
        if place.as_ref().is_some_and(|listed| listed.functions != functions) {
            return Err(Error::invalid(
                format!("two functions are registered that are both called `{name}`"),
                "give one of them another name",
            ));
        }
        *place = Some(Listed { shape, functions });
        Ok(())
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.0.keys().copied().collect()
    }

    /// What is to be called, or what to answer instead.
    pub(super) fn find(&self, head: &TaskHead) -> Result<FunctionRef, Ended> {
        let Way { each, fallible } = head.way;
        let refused = |reason: &str| Err(Ended::Refused { reason: reason.into() });
        let Some([plain, tried]) = self.0.get(head.function.as_str()) else {
            return Err(Ended::Unknown { known: self.names().iter().map(ToString::to_string).collect() });
        };
        let Some(listed) = (if fallible { tried } else { plain }) else {
            return refused(if fallible {
                "it is registered by `register`, and called by `try_submit` or `try_map`: use `try_register` there, or `submit` \
                 here"
            } else {
                "it is registered by `try_register`, and called by `submit` or `map`: use `register` there, or `try_submit` here"
            });
        };
        if listed.shape != head.shape {
            return refused(
                "its argument or its value has another shape there (fields, variants, types): build both programs from the same \
                 sources",
            );
        }
        let [once, each_of] =
            listed.functions.as_ref().map_err(|reason| Ended::Refused { reason: reason.clone() })?;
        Ok(if each { *each_of } else { *once })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::portable::{Fallible, Plain};

    fn double(n: u64) -> u64 {
        n * 2
    }

    fn checked(n: u64) -> Result<u64, std::fmt::Error> {
        n.checked_mul(2).ok_or(std::fmt::Error)
    }

    fn head(named: Named) -> TaskHead {
        TaskHead::new(named, Duration::MAX)
    }

    fn of<Fun: Function<Argument: Portable, Return: Portable>>(_: &Fun) -> TaskHead {
        head(Named::of::<Fun>(false))
    }

    #[test]
    fn a_function_is_found_in_the_ways_in_which_it_is_registered() {
        let mut list = List::default();
        let fallible = Fallible::<_, u64, u64, std::fmt::Error>::new(checked);
        list.add(Plain::<_, u64, u64>::new(double)).unwrap();
        list.add(fallible).unwrap();
        let once = list.find(&of(&fallible)).unwrap();
        let mut each = of(&fallible);
        each.way.each = true;
        assert_ne!(list.find(&each).unwrap(), once);
        let Err(Ended::Refused { reason }) = list.find(&of(&Plain::<_, u64, u64>::new(double)).fallibly())
        else {
            panic!()
        };
        assert!(reason.contains("use `try_register` there"), "{reason}");
        let Err(Ended::Refused { reason }) =
            list.find(&TaskHead { way: Way { each: false, fallible: false }, ..of(&fallible) })
        else {
            panic!()
        };
        assert!(reason.contains("use `register` there"), "{reason}");
        // Once more is not too much.
        list.add(fallible).unwrap();
        let Err(Ended::Unknown { known }) = list.find(&TaskHead { function: "x::y".into(), ..of(&fallible) })
        else {
            panic!()
        };
        assert!(known.len() == 2 && known.iter().any(|name| name.ends_with("::double")), "{known:?}");
    }

    impl TaskHead {
        fn fallibly(self) -> TaskHead {
            TaskHead { way: Way { fallible: true, ..self.way }, ..self }
        }
    }

    #[test]
    fn what_has_no_name_of_its_own_is_refused() {
        let mut list = List::default();
        let refused = list.add(Plain::<_, u64, u64>::new(|n| n + 1)).unwrap_err();
        assert!(refused.to_string().contains("all closures of one function have one name"), "{refused}");
        assert!(list.names().is_empty());
    }
}
