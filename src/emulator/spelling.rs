//! Choices that have a name: in code, in settings and on a command line.

macro_rules! spelling {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[doc = concat!("\nAs text (for [`FromStr`](std::str::FromStr)): ", $("`", $text, "` ",)+ ".")]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every choice, as text.
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

pub(super) use spelling;
