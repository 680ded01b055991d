// A reply that is one JSON value.
#pragma once

#include "base/json.h"
#include "server/http/message.h"

namespace bittern::server {

/// Bytes that are not UTF-8 (of single tokens) become U+FFFD.
inline HttpReply json_reply(const OrderedJson& json) {
  HttpReply reply;
  reply.body = json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  return reply;
}

}  // namespace bittern::server
