//! Machine images.

mod copy_image;
mod create_image;
mod deprecation;
mod deregister_image;
mod describe_image_attribute;
mod describe_images;
mod disks;
mod enabling;
#[cfg(test)]
mod examples;
mod modify_image_attribute;
mod protection;
mod register_image;
mod reset_image_attribute;

use cumulet_domain::tag::Tag;
use cumulet_wire::ec2::shared::TagSpecification;

use crate::{
    ec2::ctx::{tags, unique_keys},
    fault::Fault,
};

#[cfg(test)]
pub(super) use examples::EXAMPLES;

/// The tags of an image and of its snapshots.
fn image_and_snapshot_tags(given: Vec<TagSpecification>) -> Result<(Vec<Tag>, Vec<Tag>), Fault> {
    let (mut image, mut snapshot) = (Vec::new(), Vec::new());
    for (n, specification) in given.into_iter().enumerate() {
        let kind = specification.resource_type.unwrap_or_default();
        let place = match kind.as_str() {
            "image" => &mut image,
            "snapshot" => &mut snapshot,
            other => {
                let name = format!("TagSpecification.{}.ResourceType", n + 1);
                return Err(Fault::invalid(&name, other, "expecting image or snapshot"));
            }
        };
        place.extend(tags(specification.tags));
    }
    unique_keys(&image)?;
    unique_keys(&snapshot)?;
    Ok((image, snapshot))
}
