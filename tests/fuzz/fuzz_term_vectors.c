/* Fuzz target: files of term vectors, in both forms, and a text embedded with what was accepted. */
#include <stdint.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "embedder/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_text *text;
    struct model *model;
    float *vector;

    if (model_parse(data, size, &model, NULL) != ANX_OK)
        return 0;
    text = model_text_create(model, size % 2 ? MODEL_ZIPF : MODEL_TF);
    vector = anx_alloc_array(NULL, model_dim(model), sizeof(*vector));
    if (text && vector) {
        if (!model_text_add(text, (anx_text) { (const char *) data, size }))
            __builtin_trap();
        (void) model_text_finish(text, vector);
    }
    anx_free(NULL, vector);
    model_text_destroy(text);
    model_close(model);
    return 0;
}
