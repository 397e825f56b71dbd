"""Posterior of the visits of a gap by the law itself: all fillings, added up on a grid of time.

The visits of a window are a chain, and its clock is the sum of travels and stays. So the chance
of what is shown is a sum over the number of hidden visits of convolutions: what comes forward from
the visit before the gap meets what the visit behind it allows.

Shapes: R regions, N bins of time, H hidden visits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from model.synthetic.visit_law import VisitLaw


@dataclass(frozen=True)
class GapPosterior:
    """Of windows whose length is any of a range, of which each inner visit is hidden by chance.

    Travels of the law must take time. Bins of a minute are far finer than any of its spreads.
    """

    law: VisitLaw
    shortest: int
    longest: int
    hidden_share: float
    step_s: float = 60.0
    span_s: float = 4 * 86_400.0

    def surprise(self, region_V, travel_s_V, stay_s_V, is_hidden_V) -> float:
        """Of the hidden visits, which are one run, given the others: in nats of seconds."""
        run = np.flatnonzero(is_hidden_V)
        before, after = int(run[0]) - 1, int(run[-1]) + 1
        passed_s = np.cumsum(travel_s_V) + np.cumsum(stay_s_V)
        gap_s = passed_s[after] - stay_s_V[after] - passed_s[before]
        steps = slice(before + 1, after + 1)
        log_here = np.log(
            self.law.chain.transition_RR[region_V[before:after], region_V[steps]]
        ).sum()
        log_here -= self.law.travel_nll(region_V[steps], travel_s_V[steps]).sum()
        log_here -= self.law.stay_nll(region_V[run], travel_s_V[run], stay_s_V[run]).sum()
        log_here += len(run) * np.log(self.hidden_share)
        num_shown = len(region_V) - len(run)
        numbers = range(max(1, self.shortest - num_shown), self.longest - num_shown + 1)
        every = self.evidence(region_V[before], region_V[after], gap_s, numbers)
        return float(np.log(every) - log_here)

    def evidence(self, first: int, last: int, gap_s: float, numbers: range) -> float:
        """The density of all fillings with so many visits, up to what all of them share."""
        num_bins = int(np.ceil(gap_s / self.step_s)) + 2
        step_RN = self.passing_RN[:, :num_bins]
        wave_RN = np.fft.rfft(step_RN, 2 * num_bins)
        rest_s_N = gap_s - (np.arange(num_bins) + 0.5) * self.step_s
        regions = np.full(num_bins, last)
        way_N = np.exp(-self.law.travel_nll(regions, np.maximum(rest_s_N, 1e-3))) * (rest_s_N > 0)
        reached_RN = self.law.chain.transition_RR[first][:, None] * step_RN
        found = 0.0
        for number in range(1, numbers.stop):
            if number > 1:
                left_RN = self.law.chain.transition_RR.T @ reached_RN
                reached_RN = np.fft.irfft(np.fft.rfft(left_RN, 2 * num_bins) * wave_RN)
                reached_RN = np.maximum(reached_RN[:, :num_bins], 0)
            if number in numbers:
                to_last_N = self.law.chain.transition_RR[:, last] @ reached_RN
                found += self.hidden_share**number * (to_last_N @ way_N)
        return found

    @cached_property
    def passing_RN(self):
        """The mass of each duration of a way to a region and the stay there, together."""
        num_bins = int(self.span_s / self.step_s)
        middle_s_N = (np.arange(num_bins) + 0.5) * self.step_s
        is_stay_N = middle_s_N >= self.law.least_stay_s
        passing_RN = np.zeros((self.law.chain.num_regions, num_bins))
        for region, passing_N in enumerate(passing_RN):
            regions = np.full(num_bins, region)
            way_N = np.exp(-self.law.travel_nll(regions, middle_s_N))
            way_N /= way_N.sum()
            for way in np.flatnonzero(way_N > 1e-9):
                way_s_N = np.full(num_bins, middle_s_N[way])
                stay_N = np.exp(-self.law.stay_nll(regions, way_s_N, middle_s_N)) * is_stay_N
                # The middles of two bins add up to the edge between two others.
                share_N = way_N[way] * stay_N[: num_bins - way - 1] / stay_N.sum()
                passing_N[way + 1 :] += share_N
        return passing_RN
