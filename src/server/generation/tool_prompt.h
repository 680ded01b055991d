// Tools for models whose chat template does not know them, and the schema that forces calls.
#pragma once

#include <string>

#include "base/json.h"

namespace bittern::server {

/// Whether a template prints the tools it is given.
bool knows_tools(const std::string& template_source);
/// For a template that does not: tells of the tools in the system message, in the style "hermes", and turns messages
/// about calls into the texts that this style writes. `tools` may be null.
void describe_tools_in_text(OrderedJson& messages, const OrderedJson& tools);

}  // namespace bittern::server
