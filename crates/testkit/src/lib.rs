//! Real servers for tests, and load generators that remember every acknowledged write.
