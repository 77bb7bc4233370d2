package main

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// histogram counts durations in buckets of constant relative width: 32 to an
// octave, so that a quantile is never more than 3.2 % below what was measured.
type histogram struct {
	count   uint64
	worst   time.Duration
	buckets [40 * perOctave]uint32 // up to hours
}

const perOctave = 32

func bucket(d time.Duration) int {
	n := uint64(max(d, perOctave))
	octave := bits.Len64(n) - 6 // n >> octave has six bits, the first of them set
	return min(octave*perOctave+int(n>>octave), len(histogram{}.buckets)-1)
}

// floor is the least duration of a bucket.
func floor(bucket int) time.Duration {
	octave := max(bucket/perOctave-1, 0)
	return time.Duration(uint64(bucket-octave*perOctave) << octave)
}

func (h *histogram) add(d time.Duration) {
	h.count++
	h.worst = max(h.worst, d)
	h.buckets[bucket(d)]++
}

// quantile is the least duration that a share q of all does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	need := max(uint64(math.Ceil(q*float64(h.count))), 1)
	var sum uint64
	for i, n := range h.buckets {
		if sum += uint64(n); sum >= need && n > 0 {
			return floor(i)
		}
	}
	return h.worst
}

func (h *histogram) reset() { *h = histogram{} }

// spread is the median and the ends of what several rounds gave.
type spread struct {
	Median, Min, Max float64
	N                int
}

// spreadOf gives the lower of the two middle values where their number is
// even: a figure that was measured.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	return spread{Median: v[(len(v)-1)/2], Min: v[0], Max: v[len(v)-1], N: len(v)}
}
