@file:JvmName("LifecycleOwnerKt")

package androidx.lifecycle

import kotlinx.coroutines.CoroutineScope

abstract class LifecycleCoroutineScope private constructor() : CoroutineScope

val LifecycleOwner.lifecycleScope: LifecycleCoroutineScope get() = TODO("compile-only")
