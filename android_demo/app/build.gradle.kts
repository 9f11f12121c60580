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
        minSdk = 26 // LiteRT 1.4.0 does not load before Android 8: tests/android/manifests.txt
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

    // Libraries stay uncompressed and aligned to 16 KB pages, which Android 15 may ask for.
    packaging {
        jniLibs.useLegacyPackaging = false
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
    implementation(libs.litert)
    implementation(libs.litert.gpu)
    implementation(libs.litert.gpu.api)
    implementation(libs.androidx.activity)
    implementation(libs.androidx.core)
    implementation(libs.androidx.lifecycle.runtime)
    implementation(libs.androidx.lifecycle.viewmodel)
    implementation(libs.androidx.camera.core)
    implementation(libs.androidx.camera.camera2)
    implementation(libs.androidx.camera.lifecycle)

    testImplementation(testFixtures(project(":core")))
    testImplementation(libs.junit)
    testImplementation(libs.kotlinx.coroutines.core)
}

// No app without an export: see core/build.gradle.kts.
tasks.named("preBuild") {
    dependsOn(":core:checkExport")
}
