// The tables of HPACK: the static one (RFC 7541 appendix A) and the sizes and bounds of dynamic ones.

/** What an entry counts besides its name and value (RFC 7541 §4.1). */
export const entryOverheadBytes = 32;
/** SETTINGS_HEADER_TABLE_SIZE, ours and the most we use of a peer's. */
export const tableBytesDefault = 4096;

const text = `:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate`;

/** Name and value by index; index 0 is not used. */
export const staticTable: readonly (readonly [name: string, value: string])[] = [
  ["", ""],
  ...text.split("\n").map((line): [string, string] => {
    const space = line.indexOf(" ");
    return space < 0 ? [line, ""] : [line.slice(0, space), line.slice(space + 1)];
  }),
];
