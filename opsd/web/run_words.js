// Names for people: of a checklist's items, and of the reasons for which a daemon ends a conversation. Pure.

const ITEMS = new Map([
  ["sbs_map", "Burn severity map"],
  ["channels", "Channels"],
  ["outlet", "Outlet"],
  ["subcatchments", "Subcatchments"],
  ["landuse", "Land use"],
  ["rangeland_cover", "Rangeland cover"],
  ["soils", "Soils"],
  ["climate", "Climate"],
  ["rap_ts", "RAP time series"],
  ["openet_ts", "OpenET time series"],
  ["wepp", "WEPP"],
  ["observed", "Observed data"],
  ["debris", "Debris flow"],
  ["ag_fields", "Agricultural fields"],
  ["watar", "WATAR"],
  ["omni_scenarios", "Omni scenarios"],
  ["omni_contrasts", "Omni contrasts"],
  ["run_path_ce", "PATH cost-effectiveness"],
  ["roads", "Roads"],
  ["rhem", "RHEM"],
  ["rusle", "RUSLE"],
  ["geneva", "Geneva"],
  ["postfire_debris_flow", "Post-fire debris flow"],
  ["dss_export", "DSS export"],
]);

/** A name for people; one that is not known yet is shown as it came. */
export const itemTitle = (key) => ITEMS.get(key) ?? key;

const REASONS = new Map([
  // No close frame came: a daemon that gives a slow page up sends none, since another frame may be half written.
  [1006, "the connection broke off: network, killed daemon, or a page that was too slow"],
  [1001, "the daemon is being stopped"],
  [1008, "the daemon heard nothing from this page"],
  [1009, "a message was too big"],
  [1011, "the daemon could not go on with this run"],
  [1013, "Redis is not available"],
]);

/** Why a connection ended, in words. */
export const closeReason = (code) => REASONS.get(code) ?? "the connection was lost";
