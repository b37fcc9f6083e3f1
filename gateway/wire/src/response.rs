//! Response documents of the two protocols.

use crate::codec::XmlBody;
use crate::error::{WireError, WireErrorKind};
use crate::service::ServiceModel;
use crate::xml::XmlWriter;

/// The newest version of the EC2 API, and the one whose shapes are answered.
pub const EC2_VERSION: &str = "2016-11-15";

/// A response of the `ec2` protocol. `version` is the client's, already checked by [`ec2_version`].
#[must_use]
pub fn ec2_response<T: XmlBody>(action: &str, version: &str, request_id: &str, result: &T) -> String {
    let mut w = XmlWriter::with_capacity(2048);
    ec2_begin(&mut w, action, version, request_id);
    result.members(&mut w);
    ec2_end(&mut w, action);
    w.finish()
}

/// What a response of the `ec2` protocol has before its result.
pub fn ec2_begin(w: &mut XmlWriter, action: &str, version: &str, request_id: &str) {
    w.declaration();
    w.open_ns(
        &format!("{action}Response"),
        &format!("http://ec2.amazonaws.com/doc/{version}/"),
    );
    w.text("requestId", request_id);
}

/// What it has after its result.
pub fn ec2_end(w: &mut XmlWriter, action: &str) {
    w.close(&format!("{action}Response"));
}

/// A response of the `query` protocol. `None` where the model has no output.
#[must_use]
pub fn query_response<T: XmlBody>(
    namespace: &str,
    action: &str,
    request_id: &str,
    result: Option<&T>,
) -> String {
    let (root, wrapper) = (format!("{action}Response"), format!("{action}Result"));
    let mut w = XmlWriter::with_capacity(1024);
    w.open_ns(&root, namespace);
    if let Some(result) = result {
        w.open(&wrapper);
        result.members(&mut w);
        w.close(&wrapper);
    }
    w.open("ResponseMetadata");
    w.text("RequestId", request_id);
    w.close("ResponseMetadata");
    w.close(&root);
    w.finish()
}

/// Checks the `Version` of a request to EC2: any dated version up to the newest is taken, as old
/// clients send old ones and the newest shapes only add to theirs. None is the newest.
pub fn ec2_version(given: Option<&str>) -> Result<&str, WireError> {
    match given {
        None | Some("") => Ok(EC2_VERSION),
        Some(version) if is_date(version) && version <= EC2_VERSION => Ok(version),
        Some(version) => Err(WireError::invalid(
            "Version",
            version,
            &format!("a version of the EC2 API, at most {EC2_VERSION}"),
        )),
    }
}

/// Checks the `Version` of a request to a service of the `query` protocol.
pub fn query_version(service: &ServiceModel, given: Option<&str>) -> Result<(), WireError> {
    match given {
        None | Some("") => Ok(()),
        Some(version) if version == service.version => Ok(()),
        Some(version) => Err(WireError::invalid("Version", version, service.version)),
    }
}

/// The refusal of an action that the model does not have. Clients match on the sentence.
#[must_use]
pub fn invalid_action(action: &str) -> WireError {
    let shown: String = action.chars().take(128).collect();
    WireError::new(
        WireErrorKind::InvalidAction,
        "Action",
        format!("The action {shown} is not valid for this web service."),
    )
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = bytes.len() == 10
        && bytes.iter().enumerate().all(|(i, b)| {
            if i == 4 || i == 7 {
                *b == b'-'
            } else {
                b.is_ascii_digit()
            }
        });
    shape
        && text.get(..4).is_some_and(|year| year >= "2006")
        && text.get(5..7).is_some_and(|month| ("01"..="12").contains(&month))
        && text.get(8..).is_some_and(|day| ("01"..="31").contains(&day))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Done;

    #[test]
    fn ec2_root_has_namespace_with_final_slash_then_request_id() {
        assert_eq!(
            ec2_response("CreateTags", EC2_VERSION, "id", &Done),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <CreateTagsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
             <requestId>id</requestId><return>true</return></CreateTagsResponse>"
        );
    }

    #[test]
    fn query_root_wraps_the_result() {
        assert_eq!(
            query_response::<Done>(
                "https://sts.amazonaws.com/doc/2011-06-15/",
                "X",
                "id",
                Some(&Done)
            ),
            "<XResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><XResult><return>true</return>\
             </XResult><ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></XResponse>"
        );
        assert!(
            !query_response::<Done>("https://iam.amazonaws.com/doc/2010-05-08/", "X", "id", None)
                .contains("XResult")
        );
    }

    #[test]
    fn versions() {
        for (given, expected) in [
            (None, Some(EC2_VERSION)),
            (Some(""), Some(EC2_VERSION)),
            (Some("2016-11-15"), Some("2016-11-15")),
            (Some("2009-11-30"), Some("2009-11-30")),
            (Some("2015-10-01"), Some("2015-10-01")),
            (Some("2016-11-16"), None),
            (Some("2017-01-01"), None),
            (Some("2015-13-01"), None),
            (Some("2015-1-01"), None),
            (Some("0000-01-01"), None),
            (Some("2016-11-15/"), None),
            (Some("\"><x>\""), None),
        ] {
            assert_eq!(ec2_version(given).ok(), expected, "{given:?}");
        }
    }
}
