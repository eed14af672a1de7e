//! What the files of a request may take of its bulk data: a part is sent once, and could be named as often as a client likes.

use crate::dicom::compose::error::{ComposeError, Excess};
use crate::dicom::compose::model::{Dataset, Element, Value};
use crate::dicom::compose::write::Bulk;

/// Bulk data that files take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Parts beyond the first of each attribute, which costs the client as much as us: its own metadata.
    pub parts: usize,
    /// Bytes of all parts, each as often as it is named.
    pub bytes: u64,
}

/// What is left of the bounds of a request.
#[derive(Clone, Debug)]
pub struct Budget {
    instance: Amount,
    request: Amount,
    left: Amount,
}

impl Budget {
    /// Bounds of each instance, and of all of them together.
    #[must_use]
    pub fn new(instance: Amount, request: Amount) -> Self {
        Self { instance, request, left: request }
    }

    /// Takes what a data set names. An instance that is too large as such takes nothing from the others.
    pub(super) fn take(&mut self, dataset: &Dataset, bulk: &dyn Bulk) -> Result<(), ComposeError> {
        let excess = |excess| Err(ComposeError::Excess(excess));
        // before any list of parts is walked
        let most = self.instance.parts;
        let Some(unused) = without(most, dataset, bulk) else { return excess(Excess::InstanceParts(most)) };
        let Some(parts) = self.left.parts.checked_sub(most.saturating_sub(unused)) else {
            return excess(Excess::RequestParts(self.request.parts));
        };
        let bytes = bytes_of(dataset, bulk);
        if bytes > self.instance.bytes {
            return excess(Excess::InstanceBytes(self.instance.bytes));
        }
        let Some(left) = self.left.bytes.checked_sub(bytes) else {
            return excess(Excess::RequestBytes(self.request.bytes));
        };
        self.left = Amount { parts, bytes: left };
        Ok(())
    }
}

/// The parts that are named by a data set.
fn named<'a>(element: &Element, bulk: &'a dyn Bulk) -> &'a [usize] {
    if let Value::Bulk(uri) = &element.value { bulk.named(uri) } else { &[] }
}

/// What a data set leaves of a number of parts. Recursion is as deep as sequences nest, which reading has bounded.
fn without(parts: usize, dataset: &Dataset, bulk: &dyn Bulk) -> Option<usize> {
    dataset.iter().try_fold(parts, |parts, (_, element)| match &element.value {
        Value::Items(items) => items.iter().try_fold(parts, |parts, item| without(parts, item, bulk)),
        Value::Bulk(_) | Value::Bytes(_) => parts.checked_sub(named(element, bulk).len().saturating_sub(1)),
    })
}

fn bytes_of(dataset: &Dataset, bulk: &dyn Bulk) -> u64 {
    dataset.iter().fold(0, |sum: u64, (_, element)| match &element.value {
        Value::Items(items) => items.iter().fold(sum, |sum, item| sum.saturating_add(bytes_of(item, bulk))),
        Value::Bulk(_) | Value::Bytes(_) => {
            let parts = named(element, bulk).iter().filter_map(|number| bulk.part(*number));
            parts.fold(sum, |sum, part| sum.saturating_add(part.length))
        }
    })
}

#[cfg(test)]
mod tests {
    use dicom_core::{Tag, VR};

    use super::*;
    use crate::dicom::compose::write::{Form, Part};

    /// So many parts of as many bytes each under every name.
    struct Parts {
        numbers: Vec<usize>,
        part: Part,
    }

    impl Parts {
        fn new(count: usize, length: u64) -> Self {
            Self { numbers: (0..count).collect(), part: Part { length, ascii: true, form: Form::Plain } }
        }
    }

    impl Bulk for Parts {
        fn named(&self, _uri: &str) -> &[usize] {
            &self.numbers
        }

        fn part(&self, _number: usize) -> Option<&Part> {
            Some(&self.part)
        }
    }

    /// Attributes that name bulk data, half of them in an item.
    fn naming(elements: u16) -> Dataset {
        let dataset = |elements: std::ops::Range<u16>, items: Vec<Dataset>| {
            let bulk =
                |element| (Tag(0x0009, 0x1000 + element), Element { vr: VR::OB, value: Value::Bulk("p".to_owned()) });
            let items = (Tag(0x0008, 0x1140), Element { vr: VR::SQ, value: Value::Items(items) });
            Dataset::new(std::iter::once(items).chain(elements.map(bulk)).collect()).unwrap()
        };
        dataset(0..elements / 2, vec![Dataset::default(), dataset(elements / 2..elements, Vec::new())])
    }

    const INSTANCE: Amount = Amount { parts: 20, bytes: 100 };
    const REQUEST: Amount = Amount { parts: 30, bytes: 150 };

    #[test]
    fn what_an_instance_names_is_bounded_and_counts_for_the_request() {
        for (instances, expected) in [
            // parts beyond the first of each attribute cost
            (vec![(10, 3, 1)], Ok(())),
            (vec![(11, 3, 1)], Err(Excess::InstanceParts(20))),
            (vec![(100, 1, 1)], Ok(())),
            (vec![(10, 3, 1), (5, 3, 1)], Ok(())),
            (vec![(10, 3, 1), (6, 3, 1)], Err(Excess::RequestParts(30))),
            (vec![(10, 1, 10)], Ok(())),
            (vec![(10, 1, 11)], Err(Excess::InstanceBytes(100))),
            (vec![(10, 1, 10), (5, 1, 10)], Ok(())),
            (vec![(10, 1, 10), (6, 1, 10)], Err(Excess::RequestBytes(150))),
            (vec![(10, 1, u64::MAX)], Err(Excess::InstanceBytes(100))),
            // without parts there is nothing to take: whoever writes it says so
            (vec![(10, 0, 1)], Ok(())),
        ] {
            let mut budget = Budget::new(INSTANCE, REQUEST);
            let mut take = |&(elements, count, length)| budget.take(&naming(elements), &Parts::new(count, length));
            let last = instances.iter().map(&mut take).last().unwrap();
            assert_eq!(last, expected.map_err(ComposeError::Excess), "{instances:?}");
        }
    }

    #[test]
    fn an_instance_that_is_too_large_leaves_the_others_what_they_need() {
        let mut budget = Budget::new(INSTANCE, REQUEST);
        for _ in 0..3 {
            assert!(budget.take(&naming(11), &Parts::new(3, 1)).is_err());
            assert!(budget.take(&naming(10), &Parts::new(2, 11)).is_err());
        }
        assert_eq!(budget.left, REQUEST);
    }

    #[test]
    fn each_reason_fits_an_error_comment() {
        for excess in [
            Excess::InstanceParts(1_000_000),
            Excess::RequestParts(1_000_000),
            Excess::InstanceBytes(999_999_999_999),
            Excess::RequestBytes(999_999_999_999),
        ] {
            assert!(excess.to_string().len() <= 64, "{excess}");
        }
    }
}
