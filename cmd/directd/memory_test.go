package main

import "testing"

func TestGarbageIsBounded(t *testing.T) {
	for octets, want := range map[int64]int{0: 100, 1 << 20: 100, 64 << 20: 100, 128 << 20: 50, 1 << 30: 12, 16 << 30: 3, 1 << 45: 1} {
		if got := gcPercent(octets); got != want {
			t.Errorf("gcPercent(%d) = %d, want %d", octets, got, want)
		}
	}
}
