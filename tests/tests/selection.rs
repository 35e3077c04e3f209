//! Our selection against a model that knows nothing of ours, over all 512 × 512 attribute words.

/// The rule of Flatcar's `gptprio.next`, from its description alone: the words are GPT attributes of the two USR
/// entries in table order; the result is the index of the one that boots.
fn model(words: [u64; 2]) -> Option<usize> {
    let (mut winner, mut highest) = (None, 0);
    for (index, word) in words.into_iter().enumerate() {
        let priority = word >> 48 & 15;
        let tries = word >> 52 & 15;
        let successful = word >> 56 & 1;
        if (tries > 0 || successful == 1) && priority > highest {
            winner = Some(index);
            highest = priority;
        }
    }
    winner
}

#[test]
fn selection_agrees_with_the_model_on_all_pairs() {
    use bootctl::{Attributes, BootState, Slot};
    let mut chosen = [0_u32; 3];
    for a in 0..512_u64 {
        for b in 0..512_u64 {
            // Bits that are not ours must not matter.
            let words = [
                a << 48 | 0x8000_0000_0000_0004,
                b << 48 | 0x7e00_0000_0000_0003,
            ];
            let state = BootState {
                a: Attributes::from_gpt(words[0]),
                b: Attributes::from_gpt(words[1]),
            };
            let expected = model(words);
            let index = |slot| usize::from(slot == Slot::B);
            assert_eq!(state.next().map(index), expected, "{} {}", state.a, state.b);
            chosen[expected.unwrap_or(2)] += 1;
        }
    }
    // Not candidates: the 32 words of priority 0, and P 1 to 15 with T 0 S 0.
    assert_eq!(chosen[2], (32 + 15) * (32 + 15));
    assert_eq!(chosen.iter().sum::<u32>(), 512 * 512);
}
