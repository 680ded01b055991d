// A ModelSource over the files of a checkpoint. What a load will take is measured by packing one weight at a time, and
// planned by the engine's own memory plan, so that it is known before the model is held in memory as a whole.
#pragma once

#include <functional>
#include <memory>

#include "server/model_pool.h"
#include "tensor/model_files.h"

namespace bittern::server {

struct OpenedModel {
  std::shared_ptr<const ModelFiles> files;
  LoadedModelOptions options;
};

/// `open` finds the files and says how they are run; it is called for each load, and may throw. The first plan reads
/// the weights once more than the load does.
std::unique_ptr<ModelSource> make_checkpoint_source(std::function<OpenedModel()> open);

}  // namespace bittern::server
