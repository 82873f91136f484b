//! Enums whose variants have a name in settings and on a command line.

/// Defines an enum with a text form for each variant: `FromStr` and the list `NAMES`.
macro_rules! named_enum {
    (
        $(#[$doc:meta])* $name:ident {
            $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)?
        }
    ) => {
        $(#[$doc])*
        #[doc = concat!(
            "\nAs text (for [`FromStr`](std::str::FromStr)): ", $("`", $text, "` ",)+ "."
        )]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// The text form of every variant.
            pub const NAMES: &'static [&'static str] = &[$($text),+];
        }

        impl std::str::FromStr for $name {
            type Err = crate::Error;

            fn from_str(text: &str) -> crate::Result<Self> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(crate::Error::invalid_input(format!(
                        "\"{text}\" is none of: {}", Self::NAMES.join(", ")
                    ))),
                }
            }
        }
    };
}

pub(super) use named_enum;
