//! The order of versions: the comparison of the UAPI group's "Version Format Specification", which systemd and Flatcar's
//! tools use too.

use core::cmp::Ordering;

/// Which of two versions is newer. Total on any text; texts that differ only in separators or leading zeros compare
/// equal (`1+2` and `1_2`).
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        (a, b) = (skip_separators(a), skip_separators(b));
        // A tilde sorts before everything, even before the end.
        match lower_with(&mut a, &mut b, b'~') {
            Marker::Both => continue,
            Marker::One(order) => return order,
            Marker::None => {}
        }
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        // A caret sorts after the end, but before a dot.
        match [b'-', b'^', b'.']
            .into_iter()
            .map(|byte| lower_with(&mut a, &mut b, byte))
            .find(|marker| *marker != Marker::None)
        {
            Some(Marker::One(order)) => return order,
            Some(_) => continue,
            None => {}
        }
        let digits =
            a.first().is_some_and(u8::is_ascii_digit) || b.first().is_some_and(u8::is_ascii_digit);
        let order = if digits {
            let (x, y) = (
                take(&mut a, u8::is_ascii_digit),
                take(&mut b, u8::is_ascii_digit),
            );
            compare_numbers(x, y)
        } else {
            let (x, y) = (
                take(&mut a, u8::is_ascii_alphabetic),
                take(&mut b, u8::is_ascii_alphabetic),
            );
            x.cmp(y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    One(Ordering),
    Both,
}

/// The side that starts with `byte` is the lower one. Where both do, the byte is consumed.
fn lower_with(a: &mut &[u8], b: &mut &[u8], byte: u8) -> Marker {
    match (a.split_first(), b.split_first()) {
        (Some((&x, rest_a)), Some((&y, rest_b))) if x == byte && y == byte => {
            (*a, *b) = (rest_a, rest_b);
            Marker::Both
        }
        (Some((&x, _)), _) if x == byte => Marker::One(Ordering::Less),
        (_, Some((&y, _))) if y == byte => Marker::One(Ordering::Greater),
        _ => Marker::None,
    }
}

fn skip_separators(text: &[u8]) -> &[u8] {
    let known = |b: &u8| b.is_ascii_alphanumeric() || b"-.~^".contains(b);
    let start = text.iter().position(known).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// Splits off the longest prefix whose bytes all satisfy `wanted`.
fn take<'a>(text: &mut &'a [u8], wanted: impl Fn(&u8) -> bool) -> &'a [u8] {
    let end = text.iter().position(|b| !wanted(b)).unwrap_or(text.len());
    let (prefix, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    *text = rest;
    prefix
}

/// Decimal numbers of any length; none at all counts as 0.
fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    fn significant(digits: &[u8]) -> &[u8] {
        let start = digits.iter().position(|&d| d != b'0');
        digits
            .get(start.unwrap_or(digits.len())..)
            .unwrap_or_default()
    }
    let (a, b) = (significant(a), significant(b));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn orders_from_oldest_to_newest() {
        // Each line ascends strictly.
        let chains: [&[&str]; 9] = [
            &["~", "", "0", "0.", "0.0"],
            &[
                "1.0~rc1",
                "1.0~rc2",
                "1.0",
                "1.0-1",
                "1.0^post1",
                "1.0.1",
                "1.1",
            ],
            &["1.0-1", "1.0.1"],
            &["9", "10", "11.0", "11.1"],
            &["123", "123-a", "123.1", "123a"],
            &["123.a", "123.b", "123a"],
            &["A", "B", "a", "aa", "b"],
            &["foo-123-1", "foo-123-2", "foo-123^post1"],
            &["99999999999999999999999998", "099999999999999999999999999"],
        ];
        for chain in chains {
            for (i, older) in chain.iter().enumerate() {
                assert_eq!(compare(older, older), Ordering::Equal, "{older}");
                for newer in &chain[i + 1..] {
                    assert_eq!(compare(older, newer), Ordering::Less, "{older} < {newer}");
                    assert_eq!(
                        compare(newer, older),
                        Ordering::Greater,
                        "{newer} > {older}"
                    );
                }
            }
        }
    }

    #[test]
    fn separators_and_leading_zeros_do_not_count() {
        for (a, b) in [
            ("1_", "1"),
            ("+1", "1"),
            ("1+", "1"),
            ("1.01", "1.1"),
            ("11α", "11β"),
        ] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} = {b}");
        }
        assert_eq!(compare("1+", "1.2"), Ordering::Less);
        assert_eq!(compare("1+2+3", "1.3.3"), Ordering::Greater);
    }

    /// The order in which systemd's own tests have them.
    #[test]
    fn agrees_with_the_order_of_systemd() {
        let ascending = [
            "~1",
            "",
            "ab",
            "abb",
            "abc",
            "0001",
            "002",
            "12",
            "122",
            "122.9",
            "123~rc1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }

    proptest! {
        #[test]
        fn is_an_order(a in "[~^.+aB019-]{0,8}", b in "[~^.+aB019-]{0,8}", c in "[~^.+aB019-]{0,8}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le(), "{} {} {}", a, b, c);
            }
        }

        #[test]
        fn any_text_compares(a in any::<std::string::String>(), b in any::<std::string::String>()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }
    }
}
