//! Turns by weight, laid out in advance.

use std::{cmp::Reverse, collections::BinaryHeap};

/// The longest list of turns: what more would cost is memory, and weights so uneven that it matters are a mistake.
const LONGEST: u64 = 1 << 16;

/// A list of positions in which each comes as often as its weight says, evenly spread: earliest deadline first, where a
/// turn of weight `w` is due every `1/w`. Empty when all weights are equal: then no list is needed.
///
/// Weights whose sum exceeds the longest list, or the number of endpoints where that is more, are rounded; none to 0.
pub(super) fn turns(weights: impl Iterator<Item = u32> + Clone) -> Vec<u32> {
    let mut equal = weights.clone();
    let first = equal.next();
    if equal.all(|weight| Some(weight) == first) {
        return Vec::new();
    }
    let divisor = divisor(weights.clone());
    let units = weights.clone().map(|weight| u64::from(weight / divisor));
    let (sum, count) = (units.clone().sum::<u64>(), units.clone().count() as u64);
    let most = LONGEST.max(count);
    let units: Vec<u64> = units
        .map(|unit| if sum <= most { unit } else { (u128::from(unit) * u128::from(most) / u128::from(sum)).max(1) as u64 })
        .collect();
    // The n-th turn of an endpoint is due at (n - 1/2) / weight; compared as whole numbers.
    let scale = u64::MAX >> 32;
    let mut due: BinaryHeap<_> = units.iter().zip(0u32..).map(|(unit, at)| Reverse((scale / (2 * unit), at))).collect();
    let length = units.iter().sum::<u64>();
    let mut turns = Vec::with_capacity(length as usize);
    while turns.len() < length as usize {
        let Some(Reverse((when, at))) = due.pop() else { break };
        turns.push(at);
        let unit = units.get(at as usize).copied().unwrap_or(1);
        due.push(Reverse((when + scale / unit, at)));
    }
    turns
}

/// The greatest number that divides all of them; 1 of none.
pub(super) fn divisor(weights: impl Iterator<Item = u32>) -> u32 {
    weights.fold(0, gcd).max(1)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::turns;

    #[test]
    fn each_comes_as_often_as_it_weighs_and_never_twice_in_a_row_without_need() {
        assert_eq!(turns([7, 7, 7].into_iter()), Vec::<u32>::new());
        let list = turns([10, 20, 30].into_iter());
        let count = |at| list.iter().filter(|turn| **turn == at).count();
        assert_eq!((list.len(), count(0), count(1), count(2)), (6, 1, 2, 3));
        assert!(list.windows(2).all(|pair| pair[0] != pair[1]), "{list:?}");
    }

    #[test]
    fn uneven_weights_are_rounded_and_nobody_is_left_out() {
        let list = turns([1, 65_535, 65_535].into_iter());
        let count = |at| list.iter().filter(|turn| **turn == at).count();
        assert_eq!(count(0), 1);
        assert!(count(1).abs_diff(count(2)) <= 1 && list.len() <= 65_537, "{} {}", count(1), count(2));
    }
}
