// The bytes of a reply's head and of the chunks of its body (RFC 9112).
#pragma once

#include <string>
#include <string_view>

#include "server/http/message.h"

namespace bittern::server {

/// How the client knows where the body ends.
enum class ReplyLength { known, chunked, until_close };

/// Status line and headers up to the empty line. `version` is 10 or 11; `more` are added to the reply's own headers.
std::string response_head(const HttpReply& reply, ReplyLength length, unsigned version, bool keep_alive,
                          const HttpHeaders& more);
/// `part` as one chunk (nothing if empty), and the end of the body if it is the last.
std::string as_chunk(std::string_view part, bool last);

}  // namespace bittern::server
