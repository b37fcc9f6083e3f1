//! An example of each operation of the family.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[
    example("CreateKeyPair", "KeyName=new&KeyType=ed25519"),
    example("DeleteKeyPair", "KeyName=k"),
    example("DescribeKeyPairs", "KeyPairId.1={key}"),
    example(
        "ImportKeyPair",
        "KeyName=new&\
         PublicKeyMaterial=c3NoLWVkMjU1MTkgQUFBQUMzTnphQzFsWkRJMU5URTVBQUFBSUIzWDBtNEN2eDBGMk9hNktCbGJGWk9jUlFtQ1V6aGNRR2h3TGJYcVZzUkMgeA%3D%3D",
    ),
];
