import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "dev.sfumato.demo"
    compileSdk = 36

    defaultConfig {
        applicationId = "dev.sfumato.demo"
        minSdk = 24 // For the app's own calls (tests/android/test_api.py); the libraries ask for less (manifests.txt)
        targetSdk = 36
        versionCode = 1
        versionName = "0.1.0"
    }

    // What `sfumato bench phone` measures is built as a release is, since ART does not optimise a debuggable app. It alone has the
    // benchmark activity (src/benchmark). Signed for this computer's phones, not for the world.
    buildTypes {
        create("benchmark") {
            initWith(getByName("release"))
            signingConfig = signingConfigs.getByName("debug")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }

    // The interpreter reads the model as it is; compressed it would be unpacked on every start.
    androidResources {
        noCompress += "tflite"
    }

    // Which LiteRT: src/litert2 and src/nnapi hold what differs.
    flavorDimensions += "runtime"
    productFlavors {
        create("litert2") {
            dimension = "runtime"
            isDefault = true
            // LiteRT has no 32-bit libraries before 2.1.6, but CameraX has: such a phone would get an app that runs no model.
            ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
        }
        create("nnapi") {
            dimension = "runtime"
            versionNameSuffix = "-nnapi"
        }
    }

    // Libraries stay uncompressed and aligned to 16 KB pages, which Android 15 may ask for. A vendor's NPU libraries, where
    // somebody puts them into src/litert2/jniLibs, are looked for in a folder of the file system: they have to be unpacked.
    packaging {
        jniLibs.useLegacyPackaging = file("src/litert2/jniLibs").exists()
    }
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_11
    }
}

dependencies {
    implementation(project(":core"))
    implementation(libs.kotlinx.coroutines.android)
    "litert2Implementation"(libs.litert)
    "nnapiImplementation"(libs.nnapi.litert)
    "nnapiImplementation"(libs.nnapi.gpu)
    "nnapiImplementation"(libs.nnapi.gpu.api)
    implementation(libs.androidx.activity)
    implementation(libs.androidx.core)
    implementation(libs.androidx.lifecycle.runtime)
    implementation(libs.androidx.lifecycle.viewmodel)
    implementation(libs.androidx.camera.core)
    implementation(libs.androidx.camera.camera2)
    implementation(libs.androidx.camera.lifecycle)
    implementation(libs.androidx.camera.view)
    implementation(libs.material)

    testImplementation(testFixtures(project(":core")))
    testImplementation(libs.junit)
    testImplementation(libs.kotlinx.coroutines.core)
}

// No app without an export: see core/build.gradle.kts.
tasks.named("preBuild") {
    dependsOn(":core:checkExport")
}
