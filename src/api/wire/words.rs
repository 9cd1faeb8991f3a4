//! Fields that hold one of a few words.
//!
//! Owns how such a word is read, written, shown and documented. Never what one means.

/// Makes enums whose variants are words in JSON, `StartFirst` `start-first`.
///
/// A word of a later version is kept as it is: documents of newer members still can be read, shown
/// and passed on.
macro_rules! words {
    ($(
        $(#[doc = $doc:literal])+
        pub enum $name:ident in $case:literal { $($(#[doc = $of:literal])+ $word:ident,)+ }
    )+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = $case)]
        pub enum $name {
            $($(#[doc = $of])+ $word,)+
            /// A word of a later version.
            #[serde(untagged)]
            Other(String),
        }

        impl $name {
            /// Every word of this version.
            pub const ALL: &[Self] = &[$(Self::$word),+];
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                let known = Self::ALL.iter().find(|known| known.to_string() == word);
                known.cloned().unwrap_or_else(|| Self::Other(word.to_owned()))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                serde::Serialize::serialize(self, f)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                let about = concat!($($doc, "\n"),+).trim();
                $crate::api::wire::words::schema(about, Self::ALL.iter().map(Self::to_string))
            }
        }

        impl utoipa::ToSchema for $name {}
    )+};
}
pub(super) use words;

/// The schema of a text that is one of these.
pub fn schema(
    about: &str,
    words: impl Iterator<Item = String>,
) -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .description(Some(about))
        .enum_values(Some(words.collect::<Vec<_>>()))
        .into()
}
