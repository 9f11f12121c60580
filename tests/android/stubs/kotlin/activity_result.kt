package androidx.activity.result

import androidx.activity.result.contract.ActivityResultContracts

class PickVisualMediaRequest private constructor() {
    class Builder {
        fun setMediaType(type: ActivityResultContracts.PickVisualMedia.VisualMediaType): Builder = TODO("compile-only: $type")

        fun build(): PickVisualMediaRequest = TODO("compile-only")
    }
}
