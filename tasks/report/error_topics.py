"""Error topics: tasks that are told of under one heading, and what their errors mean."""

from __future__ import annotations

from model.evaluation.judged_tasks import (
    ARRIVAL_GIVEN,
    BOTH_SIDES,
    FORECAST,
    HISTORY,
    INFILL,
    NEXT_REGION,
    NEXT_STAY,
    NEXT_TRAVEL,
    PATH_INFERENCE,
    RECOVER,
    REGION_GIVEN,
    TIMES_GIVEN,
    TRACKS,
    TRAVEL_TIME,
)
from model.evaluation.verdict import TOLD_ENTITIES, TOLD_WINDOWS
from tasks.report.error_tables import CALIBRATION_COLUMNS, HELD, Topic

PAIRED = (
    "The bar is the baseline that is best on validation; on test another may be luckier. The "
    "interval of a skill is a paired bootstrap over entities, the model and the bar on the same "
    "windows: where it covers zero, the two cannot be told apart."
)
FORECASTS = Topic(
    "Error by horizon",
    (FORECAST,),
    (TIMES_GIVEN,),
    "ADE is the mean distance between forecast and truth over all steps up to this one, FDE that "
    "at this step alone. Every forecaster sees the same stored windows. The interval is a "
    "bootstrap over entities; skill is 1 - error / error of the bar, so below zero is worse than "
    "that. " + PAIRED,
)
RECOVERIES = Topic(
    "Recovery errors",
    (RECOVER, PATH_INFERENCE),
    TRACKS[RECOVER],
    "MAE is the mean over windows of the mean displacement of hidden points, p50 and p90 are "
    "over windows, RMSE is over points. With times given, hidden points show when they were; "
    "with times hidden they show nothing. Linear goes along the great circle between the known "
    "neighbours, Hermite also arrives and leaves as the known points beyond them tell. The "
    "interval is a bootstrap over entities; skill is 1 - error / error of the bar, so below zero "
    "is worse than that. Over all masks together the bar is that of each mask. " + PAIRED,
    "Recovery is not judged: no masked windows of validation and test are stored.",
)
TRAVEL_TIMES = Topic(
    "Travel time errors",
    (TRAVEL_TIME,),
    TRACKS[TRAVEL_TIME],
    "Whole journeys. A path of more points than the model reads is thinned evenly for it, with "
    "both ends kept. Baselines are fitted on journeys of train: distance over mean speed, the "
    "mean between the same two cells at the same hour (else at any hour, else mean speed), and "
    "boosted trees of distance, number of points, hour, weekday and both ends. Where points "
    "come at even intervals, a given path tells its duration by their number. MAPE leaves out "
    "journeys that took no time. Skill is 1 - MAE / MAE of the bar, so below zero is worse than "
    "that. " + PAIRED,
    "Travel times are not judged: either train holds no whole journey to fit the baselines on, "
    "or neither validation nor test holds one to judge.",
)
NEXT_VISITS = Topic(
    "Errors of next visits",
    (NEXT_REGION, NEXT_TRAVEL, NEXT_STAY),
    (HISTORY, REGION_GIVEN, ARRIVAL_GIVEN),
    "The last visit of a window is asked. NLL is the surprise of the region that came, in nats: 0 "
    "for one who was certain. *First 5* is the share of windows in which it is among the five "
    "likeliest regions, of all regions of the vocabulary; MRR is the mean of 1 / its place, and "
    "NDCG@10 discounts the first ten places. A region that comes is *seen* in the history, *new* "
    "to it, or *unknown* to train, which is a miss whatever is answered. Travel is told by one who "
    "knows the region, the stay by one who knows the arrival too. CRPS is an error of the whole "
    "density: of a single answer it is its absolute error. *Within 5 min* is the mass nearer to "
    "the truth than that, and NLL of durations is in nats of seconds. A stay whose end the record "
    "does not show counts in NLL alone, as lasting that long. Skill is 1 - error / error of the "
    "bar, NLL for regions and CRPS for durations, so below zero is worse than that. " + PAIRED,
    "Next visits are not judged: no windows of validation and test are stored.",
)
INFILLS = Topic(
    "Errors of visits in gaps",
    (INFILL,),
    (BOTH_SIDES,),
    "Inner visits of a window are hidden, each with one chance in five and one at least, and asked "
    "of those who see the visits on both sides. Each gap is filled 20 times. *Misplaced* is the "
    "share of its time in which an answer has one elsewhere than one was, another region or the "
    "way, as an energy score: of a single answer it is that share, and of samples half the mean "
    "share in which two of them differ is taken off. *Regions right* and *edits* are of the rows "
    "of regions: of the most frequent answer the share that is right at its place, and over all "
    "answers the mean edit distance by the length of the longer row. *Number right* is the share "
    "of answers with as many visits as there were. The last two columns are CRPS of when the first "
    "hidden visit began and the last one ended. Time that nobody saw is not judged. A region "
    "unknown to train is a miss whatever is answered. Skill is 1 - error / error of the bar, of "
    "what is misplaced, so below zero is worse than that. " + PAIRED,
    "Gaps are not judged: no windows of validation and test have visits to hide.",
)
CALIBRATION = Topic(
    "Calibration",
    (FORECAST, TRAVEL_TIME, NEXT_TRAVEL, NEXT_STAY),
    (TIMES_GIVEN, *TRACKS[TRAVEL_TIME], REGION_GIVEN, ARRIVAL_GIVEN),
    f"Of those who tell a spread. *Within 80 %* is the share of windows in which the truth lies in "
    "the area, or between the times, that should hold 80 % of them; 50 and 95 % likewise, and a "
    "bracket is a 95 % interval over entities. In the chart each dot should lie on the line of its "
    "share: left of it areas are too small, right of it too large. Areas of forecasts are discs "
    "around the point forecast, as large as the samples make them, times a factor that validation "
    "tells (split conformal). *Raw* is the share before that; on validation itself no factor is "
    f"applied. *{HELD}* as promised if they hold 76 to 84 % of the windows, and it cannot "
    "be told where they do not but their interval reaches as far; below "
    f"{TOLD_WINDOWS:,} windows and {TOLD_ENTITIES} entities there are too few to say. The columns "
    "that follow are of the samples, which no factor changes. The energy score and CRPS are errors "
    "of the whole spread, distances and durations: of a single answer they are its displacement "
    "and its absolute error. "
    "minADE_5 is the ADE of the best of five samples. PIT is the share of windows, in percent, in "
    "each tenth of the spread, from its middle outwards: tens throughout are best, many at the end "
    "mean areas that are too small, many at the beginning too large. NLL is in nats of seconds. "
    "Samples may be of fewer windows than the errors. No factor is applied to ways and stays of "
    "next visits.",
    "Nobody who was judged tells a spread.",
    CALIBRATION_COLUMNS,
)
TOPICS = (FORECASTS, RECOVERIES, TRAVEL_TIMES, NEXT_VISITS, INFILLS)
