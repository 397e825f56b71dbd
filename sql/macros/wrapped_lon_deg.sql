-- A longitude of at most one turn too many, in [-180, 180); one there stays as it is.
create or replace macro wrapped_lon_deg(lon_deg) as
case
    when lon_deg >= 180 then lon_deg - 360
    when lon_deg < -180 then lon_deg + 360
    else lon_deg
end
