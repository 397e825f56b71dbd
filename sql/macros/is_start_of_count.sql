-- Whether an instant lies in the hours after zero of the counts that clocks start from
-- before they are set: 1970 (Unix), and 1980-01-06, week zero of the first satellites.
create or replace macro is_start_of_count(instant) as
timezone('UTC', instant)::date in (date '1970-01-01', date '1980-01-06')
