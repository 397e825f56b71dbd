-- The same angle in [-pi, pi].
create or replace macro wrapped_rad(angle_rad) as
angle_rad - 2 * pi() * round_even(angle_rad / (2 * pi()), 0)
