//! Streams whose first item has come: what is missing shows before an answer begins, and errors name the instance.
//!
//! Nothing is read that would not be read anyway, and no more is held than the piece that goes out first.

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::dicom::uid::InstanceUid;
use crate::error::{Error, ErrorKind, Result};

/// Waits for the first item of what is made of the object of an instance.
///
/// # Errors
/// That of the first item, as [`of_instance`] tells it.
pub(super) async fn begun<T: Send + 'static>(
    instance: &InstanceUid,
    items: BoxStream<'static, Result<T>>,
) -> Result<BoxStream<'static, Result<T>>> {
    let instance = instance.clone();
    let mut items = items.map_err(move |error| of_instance(&instance, error));
    match items.next().await {
        Some(first) => Ok(stream::iter([Ok(first?)]).chain(items).boxed()),
        None => Ok(stream::empty().boxed()),
    }
}

/// An error of reading the object of an instance. The store says that bytes are lost; here it is known whose.
pub(super) fn of_instance(instance: &InstanceUid, error: Error) -> Error {
    if error.kind() != ErrorKind::Lost {
        return error;
    }
    let message = format!("the object of the instance `{instance}` is missing, cut short or damaged");
    Error::new(ErrorKind::Lost, message).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_is_told_before_the_first_item_or_where_it_stands() {
        let instance = InstanceUid::parse("1.2.3").unwrap();
        let items = |items: Vec<Result<u8>>| stream::iter(items).boxed();
        let lost = || Err(Error::lost("object missing"));
        let error = begun(&instance, items(vec![lost(), Ok(1)])).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Lost);
        assert!(error.message().contains("`1.2.3`") && format!("{error:?}").contains("object missing"), "{error:?}");
        let later: Vec<_> = begun(&instance, items(vec![Ok(1), Ok(2), lost()])).await.unwrap().collect().await;
        let later: Vec<_> = later.into_iter().map(|item| item.map_err(|error| error.kind())).collect();
        assert_eq!(later, [Ok(1), Ok(2), Err(ErrorKind::Lost)]);
        assert!(begun(&instance, items(Vec::new())).await.unwrap().next().await.is_none());
        let away = begun(&instance, items(vec![Err(Error::unavailable("away", "cut off"))])).await;
        assert_eq!(away.err().map(|error| error.kind()), Some(ErrorKind::Unavailable));
    }
}
