use super::*;
use crate::race::faults::Sighting;

const GAIT: Gait = Gait { every_ms: 1000, step_km: 0.25, course_km: 1.0 };

/// Users 10, 11, 12; the first `count` of them are in, one after the other.
fn course(count: usize) -> Course {
    let mut course = Course::new(&[10, 11, 12], GAIT);
    for me in 0..count {
        come(&mut course, me);
    }
    course
}

/// A member comes in and everybody is told.
fn come(course: &mut Course, me: usize) {
    let at = 100 * (me as u64 + 1);
    course.dials(me, at);
    let there: Vec<Other> =
        (0..me).map(|other| Other { user_id: 10 + other as u64, distance: 0.0 }).collect();
    course.connected(me, &there, at + 1, 5000);
    (0..me).for_each(|other| course.hears_entered(other, 10 + me as u64, 0.0));
}

/// Lost, duplicated, out of order, foreign.
fn verdict(course: Course) -> [u64; 4] {
    let faults = course.judge();
    assert_eq!(faults.total(), faults.examples.values().map(Vec::len).sum::<usize>() as u64);
    [faults.lost, faults.duplicated, faults.out_of_order, faults.foreign]
}

#[test]
fn whoever_is_told_everything_once_finds_no_fault() {
    let mut course = course(3);
    assert_eq!(course.next_record(0, 400), Some((0.25, 6000, false)));
    assert!(course.owes());
    for me in [1, 2] {
        assert_eq!(course.hears_update(me, 10, 0.25, 6000), Some(6000));
    }
    assert!(!course.owes());
    course.quits(1, 500);
    assert!(course.owes());
    course.hears_left(0, 11);
    course.hears_left(2, 11);
    course.hears_left(0, 99); // somebody who is none of ours
    assert!(!course.owes());
    assert_eq!(verdict(course), [0; 4]);
}

#[test]
fn what_is_not_told_is_lost() {
    let mut course = course(2);
    course.dials(2, 300);
    course.connected(2, &[Other { user_id: 10, distance: 0.0 }], 301, 5000);
    course.hears_entered(0, 12, 0.0);
    // 12 does not know 11, 11 does not know 12.
    let faults = course.judge();
    assert_eq!((faults.lost, faults.total()), (2, 2));
    let lost = &faults.examples["lost"];
    assert_eq!(lost[0], Sighting { who: 11, about: 12, what: "no USER_ENTERED".into() });
    assert_eq!((lost[1].who, lost[1].about), (12, 11));
}

#[test]
fn what_is_told_twice_or_was_never_so_is_found() {
    let mut crowd = course(3);
    crowd.hears_entered(0, 11, 0.0);
    assert_eq!(verdict(crowd), [0, 1, 0, 0]);

    let mut crowd = course(3);
    crowd.quits(2, 400);
    (0..2).for_each(|me| crowd.hears_left(me, 12));
    crowd.hears_left(0, 12);
    assert_eq!(verdict(crowd), [0, 1, 0, 0]);

    let mut crowd = course(3);
    crowd.hears_left(0, 11);
    assert_eq!(verdict(crowd), [0, 0, 0, 1], "it is still in");

    let mut crowd = course(2);
    crowd.hears_entered(0, 12, 0.0);
    assert_eq!(verdict(crowd), [0, 0, 0, 1], "it never came");
}

#[test]
fn positions_go_forth_and_are_those_that_were_sent() {
    let mut crowd = course(2);
    (0..2).for_each(|_| assert!(crowd.next_record(0, 400).is_some()));
    assert!(crowd.hears_update(1, 10, 0.5, 7000).is_some());
    assert!(crowd.hears_update(1, 10, 0.25, 6000).is_none());
    assert!(crowd.hears_update(1, 10, 0.5, 7000).is_none());
    assert!(crowd.hears_update(1, 10, 0.5, 6000).is_none(), "not where it was then");
    assert!(crowd.hears_update(1, 10, 0.75, 8000).is_none(), "not yet sent");
    assert_eq!(verdict(crowd), [0, 1, 1, 2]);

    // Who comes later is told where the others are; the update of that may follow, an older one may not.
    let mut crowd = course(2);
    (0..2).for_each(|_| assert!(crowd.next_record(0, 250).is_some()));
    assert!(crowd.hears_update(1, 10, 0.5, 7000).is_some());
    crowd.dials(2, 300);
    let there = [Other { user_id: 10, distance: 0.5 }, Other { user_id: 11, distance: 0.0 }];
    crowd.connected(2, &there, 301, 5000);
    (0..2).for_each(|me| crowd.hears_entered(me, 12, 0.0));
    assert!(crowd.hears_update(2, 10, 0.5, 7000).is_some());
    assert!(crowd.hears_update(2, 10, 0.25, 6000).is_none());
    assert_eq!(verdict(crowd), [0, 0, 1, 0]);
}

#[test]
fn the_latest_position_is_owed_to_everybody() {
    let mut crowd = course(2);
    (0..2).for_each(|_| assert!(crowd.next_record(0, 400).is_some()));
    assert!(crowd.hears_update(1, 10, 0.25, 6000).is_some());
    assert!(crowd.owes());
    assert_eq!(verdict(crowd), [1, 0, 0, 0]);
}

#[test]
fn a_finisher_leaves_and_the_course_has_an_end() {
    let mut crowd = course(2);
    let records: Vec<_> = (0..4).filter_map(|_| crowd.next_record(0, 400)).collect();
    assert_eq!(records[3], (1.0, 9000, true));
    assert!(records[..3].iter().all(|(_, _, last)| !last));
    assert!(crowd.hears_update(1, 10, 1.0, 9000).is_some());
    crowd.hears_left(1, 10);
    assert_eq!(verdict(crowd), [0; 4]);
}

#[test]
fn news_come_in_one_order() {
    for swapped in [false, true] {
        let mut crowd = course(1);
        crowd.dials(1, 200);
        crowd.dials(2, 201);
        for user in if swapped { [12, 11] } else { [11, 12] } {
            crowd.hears_entered(0, user, 0.0);
        }
        let others = |one: u64, other: u64| [one, other].map(|user_id| Other { user_id, distance: 0.0 });
        crowd.connected(1, &others(10, 12), 300, 5000);
        crowd.connected(2, &others(10, 11), 301, 5000);
        assert_eq!(verdict(crowd), [0; 4], "one socket alone makes the order");
    }
    let mut crowd = Course::new(&[10, 11, 12, 13], GAIT);
    for me in 0..4 {
        crowd.dials(me, me as u64);
    }
    for me in 0..4_usize {
        let others = (0..4).filter(|other| *other != me);
        let others: Vec<_> =
            others.map(|other| Other { user_id: 10 + other as u64, distance: 0.0 }).collect();
        crowd.connected(me, &others, 10, 5000);
    }
    crowd.quits(2, 20);
    crowd.quits(3, 20);
    [12, 13].into_iter().for_each(|user| crowd.hears_left(0, user));
    [13, 12].into_iter().for_each(|user| crowd.hears_left(1, user));
    assert_eq!(verdict(crowd), [0, 0, 1, 0]);
}

#[test]
fn whoever_is_ahead_and_was_not_there_for_all_news_is_no_measure() {
    let mut crowd = Course::new(&[10, 11, 12, 13], GAIT);
    crowd.dials(0, 1);
    crowd.connected(0, &[], 2, 5000);
    crowd.dials(2, 10);
    crowd.dials(1, 11);
    // 12 is no news to 11, but to 10, which hears of it later than 11 does of 13.
    crowd.connected(1, &[Other { user_id: 10, distance: 0.0 }], 12, 5000);
    crowd.dials(3, 20);
    [12, 13].into_iter().for_each(|user| crowd.hears_entered(1, user, 0.0));
    [12, 11, 13].into_iter().for_each(|user| crowd.hears_entered(0, user, 0.0));
    assert_eq!(verdict(crowd), [0; 4]);
}

#[test]
fn who_comes_back_may_be_told_of_again() {
    let mut crowd = course(3);
    crowd.breaks(2);
    (0..2).for_each(|me| crowd.hears_left(me, 12));
    assert!(!crowd.owes());
    crowd.dials(2, 500);
    let there = [10, 11].map(|user_id| Other { user_id, distance: 0.0 });
    crowd.connected(2, &there, 501, 9000);
    crowd.hears_entered(0, 12, 0.0);
    assert!(crowd.owes());
    assert_eq!(verdict(crowd), [1, 0, 0, 0]);
}

#[test]
fn no_record_more_than_a_cell_can_count() {
    let gait = Gait { every_ms: 1, step_km: 1e-3, course_km: 1e9 };
    let mut crowd = Course::new(&[1], gait);
    crowd.connected(0, &[], 1, 0);
    let sent = std::iter::from_fn(|| crowd.next_record(0, 2)).count();
    assert_eq!(sent, usize::from(RECORDS_MAX));
}
